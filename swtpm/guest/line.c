/* The host's root shell in the virtual machine, over a virtual serial port: line DEVICE.

   A request is a line "NUMBER SECONDS COMMAND INPUT", the last two being sizes in bytes, and then
   the command and its standard input. It is run by /bin/sh and killed after so many seconds. The
   answer is a line "procseal-answer NUMBER CODE SIZE" and what the command wrote. That goes
   through a file, so that a program left in the background does not hold the answer back.

   A program of ours, since a shell would start six for each command, and the machine is emulated. */

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char COMMAND[] = "/run/procseal-command";

static void read_all(int line, char *buffer, size_t size)
{
	while (size) {
		ssize_t got = read(line, buffer, size);
		if (got <= 0)
			err(1, "the host has hung up");
		buffer += got;
		size -= got;
	}
}

static void write_all(int file, const char *buffer, size_t size)
{
	while (size) {
		ssize_t put = write(file, buffer, size);
		if (put <= 0)
			err(1, "write");
		buffer += put;
		size -= put;
	}
}

static char *read_bytes(int line, size_t size)
{
	char *bytes = malloc(size + 1);

	if (!bytes)
		err(1, "malloc");
	read_all(line, bytes, size);
	bytes[size] = 0;
	return bytes;
}

static void read_head(int line, char *head, size_t room)
{
	do {
		if (!--room)
			errx(1, "a request without an end");
		read_all(line, head, 1);
	} while (*head++ != '\n');
	head[-1] = 0;
}

/* A file without a name, in memory. */
static int nameless(void)
{
	int file = open("/run", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (file < 0)
		err(1, "/run");
	return file;
}

/* By a file, so that what looks for a word in others' command lines does not find the command. */
static void write_command(const char *command, size_t size)
{
	unlink(COMMAND);
	int file = open(COMMAND, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (file < 0)
		err(1, COMMAND);
	write_all(file, command, size);
	close(file);
}

static pid_t start(int input, int output)
{
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (pid)
		return pid;
	setpgid(0, 0);
	dup2(input, 0);
	dup2(output, 1);
	dup2(output, 2);
	execl("/bin/sh", "sh", COMMAND, NULL);
	_exit(127);
}

/* The exit code, as a shell has it; of what was killed for its time, that of SIGKILL. */
static int wait_for(pid_t pid, double seconds)
{
	struct pollfd end = {.fd = syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
	int status;

	if (end.fd < 0)
		err(1, "pidfd_open");
	if (poll(&end, 1, seconds * 1000) == 0) {
		setpgid(pid, pid); /* it may have had no time for that */
		kill(-pid, SIGKILL);
	}
	close(end.fd);
	if (waitpid(pid, &status, 0) != pid)
		err(1, "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void answer(int line, const char *number, int code, int output)
{
	char buffer[1 << 16];
	off_t size = lseek(output, 0, SEEK_END), sent = 0;

	dprintf(line, "procseal-answer %s %d %lld\n", number, code, (long long)size);
	while (sent < size) {
		size_t left = size - sent;
		ssize_t got = pread(output, buffer, left < sizeof buffer ? left : sizeof buffer, sent);
		if (got <= 0)
			err(1, "the output");
		write_all(line, buffer, got);
		sent += got;
	}
}

static void serve(int line)
{
	char head[256], number[32];
	size_t command_size, input_size;
	double seconds;

	read_head(line, head, sizeof head);
	if (sscanf(head, "%31s %lf %zu %zu", number, &seconds, &command_size, &input_size) != 4)
		errx(1, "not a request: %s", head);
	char *command = read_bytes(line, command_size), *given = read_bytes(line, input_size);
	int input = nameless(), output = nameless();
	write_all(input, given, input_size);
	lseek(input, 0, SEEK_SET);
	write_command(command, command_size);
	int code = wait_for(start(input, output), seconds);
	answer(line, number, code, output);
	close(input);
	close(output);
	free(command);
	free(given);
}

int main(int argc, char **argv)
{
	int line = argc == 2 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;

	if (line < 0)
		err(1, "the line to the host");
	dprintf(line, "procseal-ready\n");
	for (;;)
		serve(line);
}
