/* A process that does what a test tells it, one line of its input at a time, and answers each
 * with one line of output: the pieces that attacks on the local socket are made of.
 *
 *   connect PATH          use this attestor            use FD          use this descriptor
 *   receive               the next packet, its line ends as |; a descriptor with it is the job
 *   send TEXT             a packet, | as line ends     give TEXT       the same with a descriptor
 *   child-send TEXT       a child sends it             child-give TEXT
 *   forged-give PID TEXT  with SCM_CREDENTIALS that name another pid
 *   child-forged-give PID TEXT
 *   exec PATH [ARG...]    become another program, with the socket at descriptor 9
 *   speak PATH            become another program, whose output goes to the socket
 *   pass PATH             give the socket away         take PATH       take one that is given
 *   pass-job PATH         give the job away            close-job       give it up
 *   shut-job              end it
 *   load FILE             map a program's executable segments, as its loader would
 *   load-later FILE       map them readable first, and make them executable then
 *   map FILE              map the first page of a file executable
 *   open FILE             use a library, with dlopen (not where this program is static)
 *   poke                  change one's own text        restore         and undo it
 *   jit                   write code into new memory, and run it
 *   leave                 a relative that shares this memory stays, the process becomes `sleep`
 *   sibling UID           a relative that shares this memory keeps root's ids, the process does not
 *   thread UID            the same with a thread
 *   flap FILE             a relative that shares this memory loads a program elsewhere, for ever
 *   another               have one thread more; say its id
 *   poke-other PID        change another process's text, with ptrace
 *   write-text PID        the same through /proc/PID/mem
 *   write-data PID        change another process's data, with process_vm_writev
 *   trace PID             be the tracer of a process or a thread, and stay it
 *   force PID TEXT        have another process send a packet, with ptrace, and leave no trace in it
 *   value                 say what write-data has changed
 *   rename NAME           call oneself something else, for ps
 *   stall FILE            have a file for one's arguments: whoever reads them waits for its server;
 *                         say where they are
 *   hold FILE             have a thread wait for ever for its server, which takes no writes, in the
 *                         middle of a change of this memory's mappings
 *   close                 hang up
 *   spoof FILE            have /proc/PID/exe name another file, from a user namespace of one's own
 *   namespaces            become the first process of a pid namespace of one's own
 *
 * Build: gcc -O2 -static -Wall -Wextra -Werror -o puppet puppet.c; for `open`, with -DDYNAMIC
 * instead of -static.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 70000, KEPT = 9, PAGE = 4096, STACK = 65536 };

static int channel = -1, job = -1;
static char **arguments;
static volatile long value = 1;

static void say(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	fflush(stdout);
}

static void done(int result)
{
	if (result < 0)
		say("failed %s", strerror(errno));
	else
		say("done");
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	snprintf(name.sun_path, sizeof name.sun_path, "%.107s", path);
	return name;
}

static void swap(char *text, size_t length, char from, char to)
{
	for (size_t i = 0; i < length; i++)
		if (text[i] == from)
			text[i] = to;
}

/* Send a packet: with a descriptor of our own, or with a pid that may not be ours. */
static int send_packet(char *text, int descriptor, pid_t pid)
{
	char space[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))] = {0};
	struct iovec part = {.iov_base = text, .iov_len = strlen(text)};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	swap(text, part.iov_len, '|', '\n');
	message.msg_control = space;
	message.msg_controllen = sizeof space;
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	size_t used = 0;
	if (descriptor >= 0) {
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof descriptor);
		memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
		used += CMSG_SPACE(sizeof descriptor);
		head = CMSG_NXTHDR(&message, head);
	}
	if (pid > 0) {
		struct ucred who = {.pid = pid, .uid = getuid(), .gid = getgid()};
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_CREDENTIALS;
		head->cmsg_len = CMSG_LEN(sizeof who);
		memcpy(CMSG_DATA(head), &who, sizeof who);
		used += CMSG_SPACE(sizeof who);
	}
	message.msg_controllen = used;
	if (used == 0)
		message.msg_control = NULL;
	return sendmsg(channel, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

static int give_packet(char *text, pid_t pid)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int result = send_packet(text, null, pid);
	close(null);
	return result;
}

static void from_child(char *text, int with_descriptor, pid_t pid)
{
	int status = 0;
	fflush(stdout);
	pid_t child = fork();
	if (child == 0)
		_exit((with_descriptor ? give_packet(text, pid) : send_packet(text, -1, pid)) ? errno : 0);
	waitpid(child, &status, 0);
	errno = WEXITSTATUS(status);
	done(errno == 0 ? 0 : -1);
}

static void receive_packet(void)
{
	static char text[MOST];
	char space[CMSG_SPACE(sizeof(int))];
	struct iovec part = {.iov_base = text, .iov_len = sizeof text - 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space,
				 .msg_controllen = sizeof space};
	struct timeval patience = {.tv_sec = 30};
	setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	ssize_t length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
	if (length >= 0 && CMSG_FIRSTHDR(&message))
		memcpy(&job, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof job);
	if (length < 0) {
		say("failed %s", strerror(errno));
		return;
	}
	text[length] = 0;
	swap(text, (size_t)length, '\n', '|');
	say("received %s", text);
}

static void become(char *path, int place)
{
	char *words[16] = {path};
	size_t count = 1;
	strtok(path, " ");
	while (count < 15 && (words[count] = strtok(NULL, " ")))
		count++;
	dup2(channel, place);
	execv(words[0], words);
	say("failed %s", strerror(errno));
}

/* A stream socket hands a descriptor from one puppet to another. */
static int pass(const char *path, int descriptor)
{
	struct sockaddr_un name = address(path);
	int to = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), kept = channel;
	char letter[] = "x";
	if (connect(to, (struct sockaddr *)&name, sizeof name) < 0)
		return -1;
	channel = to;
	int result = send_packet(letter, descriptor, 0);
	channel = kept;
	close(to);
	return result;
}

static int take(const char *path)
{
	struct sockaddr_un name = address(path);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char letter, space[CMSG_SPACE(sizeof(int))];
	struct iovec part = {.iov_base = &letter, .iov_len = 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space,
				 .msg_controllen = sizeof space};
	if (bind(listener, (struct sockaddr *)&name, sizeof name) < 0 || listen(listener, 1) < 0)
		return -1;
	chmod(path, 0666);
	say("done");
	int from = accept(listener, NULL, NULL);
	if (recvmsg(from, &message, 0) < 1)
		return -1;
	memcpy(&channel, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof channel);
	close(from);
	close(listener);
	return 0;
}

static int map_file(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED ? -1 : 0;
}

/* Map a program's executable segments as its loader would, and return where: at `wish`, if it is
 * not NULL and free. length: how much is reserved. `first` is their protection before they become
 * executable, or 0. */
static char *load(const char *path, int first, char *wish, size_t *length)
{
	static char text[65536];
	int file = open(path, O_RDONLY | O_CLOEXEC);
	const Elf64_Ehdr *head = (const Elf64_Ehdr *)text;
	const Elf64_Phdr *part = (const Elf64_Phdr *)(text + sizeof *head);
	size_t end = 0;
	if (file < 0 || read(file, text, sizeof text) < (ssize_t)sizeof *head ||
	    head->e_phoff != sizeof *head)
		return MAP_FAILED;
	for (int i = 0; i < head->e_phnum; i++)
		if (part[i].p_type == PT_LOAD && part[i].p_vaddr + part[i].p_memsz > end)
			end = part[i].p_vaddr + part[i].p_memsz;
	*length = (end + PAGE - 1) & ~(size_t)(PAGE - 1);
	char *place = mmap(wish, *length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < head->e_phnum && place != MAP_FAILED; i++) {
		size_t in_page = part[i].p_vaddr % PAGE;
		if (part[i].p_type != PT_LOAD || !(part[i].p_flags & PF_X))
			continue;
		char *start = place + part[i].p_vaddr - in_page;
		if (mmap(start, part[i].p_filesz + in_page, first ? first : PROT_READ | PROT_EXEC,
			 MAP_PRIVATE | MAP_FIXED, file, (off_t)(part[i].p_offset - in_page)) == MAP_FAILED ||
		    (first && mprotect(start, part[i].p_filesz + in_page, PROT_READ | PROT_EXEC) < 0))
			place = MAP_FAILED;
	}
	close(file);
	return place;
}

static int is_loaded(const char *path, int first)
{
	size_t length;
	return load(path, first, NULL, &length) == MAP_FAILED ? -1 : 0;
}

static char *text_page(void)
{
	return (char *)((uintptr_t)is_loaded & ~(uintptr_t)(PAGE - 1));
}

static int poke(void)
{
	char *page = text_page();
	if (mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) < 0)
		return -1;
	*(volatile char *)page = *page;
	return mprotect(page, PAGE, PROT_READ | PROT_EXEC);
}

static int jit(void)
{
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	if (page == MAP_FAILED)
		return -1;
	*page = (char)0xc3; /* ret */
	((void (*)(void))(uintptr_t)page)();
	return 0;
}

/* The puppets of one build are static and not movable: what is here is there at the same place. */
static int poke_other(pid_t pid)
{
	int status;
	if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) < 0)
		return -1;
	errno = 0;
	long word = ptrace(PTRACE_PEEKTEXT, pid, text_page(), NULL);
	if (errno != 0 || ptrace(PTRACE_POKETEXT, pid, text_page(), word) < 0)
		return -1;
	return (int)ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

static int write_text(pid_t pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
	int memory = open(path, O_RDWR | O_CLOEXEC);
	ssize_t written = pwrite(memory, text_page(), 8, (off_t)(uintptr_t)text_page());
	int why = errno;
	close(memory);
	errno = why;
	return written == 8 ? 0 : -1;
}

static int write_data(pid_t pid)
{
	long other = 2;
	struct iovec from = {.iov_base = &other, .iov_len = sizeof other};
	struct iovec to = {.iov_base = (void *)&value, .iov_len = sizeof other};
	return process_vm_writev(pid, &from, 1, &to, 1, 0) < 0 ? -1 : 0;
}

/* The descriptor of a process's socket, of which it has one. */
static int socket_of(pid_t pid)
{
	for (int descriptor = 3; descriptor < 64; descriptor++) {
		char path[64], target[64] = "";
		snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, descriptor);
		if (readlink(path, target, sizeof target - 1) > 0 && strncmp(target, "socket:", 7) == 0)
			return descriptor;
	}
	errno = ENOTSOCK;
	return -1;
}

/* The process waits in a system call: the instruction before makes another one, and then it is
 * put back where it was, to wait again. */
static int force(const char *told)
{
	enum { BELOW = 16384, INSTRUCTION = 2, MOST_TEXT = 4096 };
	static char text[MOST_TEXT];
	char *rest;
	pid_t pid = (pid_t)strtol(told, &rest, 10);
	snprintf(text, sizeof text, "%s", rest + (*rest == ' '));
	swap(text, strlen(text), '|', '\n');
	int status, descriptor = socket_of(pid);
	struct user_regs_struct before, now;
	if (descriptor < 0 || ptrace(PTRACE_ATTACH, pid, NULL, NULL) < 0 ||
	    waitpid(pid, &status, 0) < 0 || ptrace(PTRACE_GETREGS, pid, NULL, &before) < 0)
		return -1;
	unsigned long place = (before.rsp - BELOW) & ~15UL;
	for (size_t at = 0; at < strlen(text); at += sizeof(long)) {
		long word;
		memcpy(&word, text + at, sizeof word);
		ptrace(PTRACE_POKEDATA, pid, place + at, word);
	}
	now = before;
	now.rip -= INSTRUCTION;
	now.rax = SYS_write;
	now.rdi = (unsigned long)descriptor;
	now.rsi = place;
	now.rdx = strlen(text);
	now.orig_rax = -1UL;
	if (ptrace(PTRACE_SETREGS, pid, NULL, &now) < 0 ||
	    ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) < 0 ||
	    ptrace(PTRACE_GETREGS, pid, NULL, &now) < 0 ||
	    ptrace(PTRACE_SETREGS, pid, NULL, &before) < 0 ||
	    ptrace(PTRACE_DETACH, pid, NULL, NULL) < 0)
		return -1;
	errno = now.rax == strlen(text) ? 0 : EIO;
	return errno ? -1 : 0;
}

static void *wait_for_ever(void *told)
{
	pid_t *id = told;
	if (id)
		__atomic_store_n(id, (pid_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	for (;;)
		pause();
	return NULL;
}

static pid_t another_thread(void)
{
	static pid_t id;
	pthread_t thread;
	id = 0;
	if (pthread_create(&thread, NULL, wait_for_ever, &id) != 0)
		return -1;
	while (__atomic_load_n(&id, __ATOMIC_SEQ_CST) == 0)
		usleep(1000);
	return id;
}

/* Of this thread alone: the library's functions would change every thread's. */
static int become_user(unsigned uid)
{
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, uid, uid, uid) < 0)
		return -1;
	return (int)syscall(SYS_setresuid, uid, uid, uid);
}

/* Never at a place where it was before, so that no two moments are alike. */
static int flap_for_ever(void *path)
{
	char *last = MAP_FAILED, *wish = (char *)(1UL << 44);
	size_t last_length = 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		size_t length;
		char *place = load(path, 0, wish, &length);
		usleep(20000);
		if (last != MAP_FAILED)
			munmap(last, last_length);
		last = place;
		last_length = length;
		wish += 1 << 24;
		usleep(20000);
	}
	return 0;
}

static int stay(void *unused)
{
	/* Not PR_SET_PDEATHSIG: who has given up root may not send a signal to who has not. */
	(void)unused;
	for (pid_t parent = getppid(); getppid() == parent;)
		usleep(20000);
	return 0;
}

static int relative(int (*work)(void *), void *argument)
{
	static char stack[STACK];
	return clone(work, stack + sizeof stack, CLONE_VM | SIGCHLD, argument) < 0 ? -1 : 0;
}

static void leave(void)
{
	char *words[] = {"sleep", "1000", NULL};
	if (relative(stay, NULL) < 0) {
		say("failed %s", strerror(errno));
		return;
	}
	say("done");
	dup2(channel, KEPT);
	execv("/usr/bin/sleep", words);
	_exit(1);
}

static int write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t result = write(file, text, strlen(text));
	close(file);
	return result < 0 ? -1 : 0;
}

static int own_user_namespace(int more)
{
	char uids[64], gids[64];
	snprintf(uids, sizeof uids, "0 %d 1\n", (int)getuid());
	snprintf(gids, sizeof gids, "0 %d 1\n", (int)getgid());
	if (unshare(CLONE_NEWUSER | more) < 0 || write_file("/proc/self/setgroups", "deny") < 0)
		return -1;
	return write_file("/proc/self/uid_map", uids) < 0 ? -1 : write_file("/proc/self/gid_map", gids);
}

static long raw(long number, long a, long b, long c, long d, long e)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

/* Say of this memory what is true (proc(5), /proc/PID/stat), and of its executable, or of where its
 * arguments are, what is not. */
static int claim(int file, char *argument)
{
	unsigned long long field[52] = {0};
	char text[2048];
	int from = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t length = read(from, text, sizeof text - 1);
	close(from);
	if (length < 0)
		return -1;
	text[length] = 0;
	char *word = strtok(strrchr(text, ')') + 2, " ");
	for (int i = 3; i < 52 && word; i++, word = strtok(NULL, " "))
		field[i] = strtoull(word, NULL, 10);
	struct prctl_mm_map map = {
		.start_code = field[26], .end_code = field[27], .start_stack = field[28],
		.start_data = field[45], .end_data = field[46], .start_brk = field[47],
		.brk = (unsigned long)sbrk(0), .arg_start = field[48], .arg_end = field[49],
		.env_start = field[50], .env_end = field[51], .exe_fd = (unsigned)file,
	};
	if (argument) {
		map.arg_start = (uintptr_t)argument;
		map.arg_end = (uintptr_t)argument + 64;
	}
	return (int)syscall(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
}

/* The kernel lets /proc/PID/exe change only when nothing of the old file is mapped (prctl(2),
 * PR_SET_MM_MAP). So: copy ourselves into anonymous memory at the same addresses. */
static int spoof(const char *path)
{
	char line[512];
	int file = open(path, O_RDONLY | O_CLOEXEC), moved = 0;
	struct { unsigned long start, end; char permissions[5]; } own[32];
	FILE *maps = fopen("/proc/self/maps", "r");
	struct stat me, one;
	if (file < 0 || maps == NULL || stat("/proc/self/exe", &me) < 0)
		return -1;
	while (moved < 32 && fgets(line, sizeof line, maps)) {
		char name[256] = "";
		sscanf(line, "%lx-%lx %4s %*s %*s %*s %255s", &own[moved].start, &own[moved].end,
		       own[moved].permissions, name);
		if (name[0] == '/' && stat(name, &one) == 0 && one.st_ino == me.st_ino)
			moved++;
	}
	fclose(maps);
	if (own_user_namespace(0) < 0)
		return -1;
	for (int i = 0; i < moved; i++) {
		size_t length = own[i].end - own[i].start;
		void *copy = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (copy == MAP_FAILED)
			return -1;
		memcpy(copy, (void *)own[i].start, length);
		mprotect(copy, length,
			 PROT_READ | (own[i].permissions[1] == 'w' ? PROT_WRITE : 0) |
				 (own[i].permissions[2] == 'x' ? PROT_EXEC : 0));
		/* One call; the code it returns to has the same bytes at the same place. */
		if (raw(SYS_mremap, (long)copy, (long)length, (long)length,
			MREMAP_MAYMOVE | MREMAP_FIXED, (long)own[i].start) < 0)
			return -1;
	}
	return claim(file, NULL);
}

static void stall(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
	close(file);
	if (page == MAP_FAILED || claim(-1, page) < 0)
		say("failed %s", strerror(errno));
	else
		say("%lu", (unsigned long)(uintptr_t)page);
}

static int rename_self(const char *name)
{
	memset(arguments[0], 0, strlen(arguments[0]));
	strcpy(arguments[0], "sh");
	return prctl(PR_SET_NAME, name);
}

static int namespaces(void)
{
	if (own_user_namespace(CLONE_NEWPID) < 0)
		return -1;
	pid_t child = fork();
	if (child < 0)
		return -1;
	if (child > 0) {
		waitpid(child, NULL, 0);
		_exit(0);
	}
	return 0;
}

static void open_library(const char *path)
{
#ifdef DYNAMIC
	if (dlopen(path, RTLD_NOW) == NULL)
		say("failed %s", dlerror());
	else
		say("done");
#else
	say("failed %s: this program is static", path);
#endif
}

static void *map_page(void *file)
{
	usleep(100000); /* whoever changes its mappings next waits, too: let it say that it is done */
	return mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, *(int *)file, 0);
}

/* The kernel, which changes the mappings, first has the page written that it must not share. */
static int hold(const char *path)
{
	static int other;
	pthread_t thread;
	int file = open(path, O_RDWR | O_CLOEXEC);
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	other = open(path, O_RDWR | O_SYNC | O_CLOEXEC);
	if (page == MAP_FAILED || other < 0)
		return -1;
	page[0] ^= 1;
	return pthread_create(&thread, NULL, map_page, &other) == 0 ? 0 : -1;
}

static const char *after(const char *line, const char *command)
{
	size_t length = strlen(command);
	return strncmp(line, command, length) == 0 && line[length] == ' ' ? line + length + 1 : NULL;
}

static void obey(char *line)
{
	const char *rest;
	if ((rest = after(line, "connect"))) {
		struct sockaddr_un name = address(rest);
		channel = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		done(connect(channel, (struct sockaddr *)&name, sizeof name));
	} else if ((rest = after(line, "use"))) {
		channel = atoi(rest);
		done(0);
	} else if ((rest = after(line, "send"))) {
		done(send_packet((char *)rest, -1, 0));
	} else if ((rest = after(line, "give"))) {
		done(give_packet((char *)rest, 0));
	} else if ((rest = after(line, "child-send"))) {
		from_child((char *)rest, 0, 0);
	} else if ((rest = after(line, "child-give"))) {
		from_child((char *)rest, 1, 0);
	} else if ((rest = after(line, "forged-give"))) {
		char *text;
		pid_t pid = (pid_t)strtol(rest, &text, 10);
		done(give_packet(text + 1, pid));
	} else if ((rest = after(line, "child-forged-give"))) {
		char *text;
		pid_t pid = (pid_t)strtol(rest, &text, 10);
		from_child(text + 1, 1, pid);
	} else if ((rest = after(line, "exec"))) {
		become((char *)rest, KEPT);
	} else if ((rest = after(line, "speak"))) {
		become((char *)rest, STDOUT_FILENO);
	} else if ((rest = after(line, "pass"))) {
		done(pass(rest, channel));
	} else if ((rest = after(line, "pass-job"))) {
		done(pass(rest, job));
	} else if ((rest = after(line, "take"))) {
		done(take(rest));
	} else if ((rest = after(line, "map"))) {
		done(map_file(rest));
	} else if ((rest = after(line, "load"))) {
		done(is_loaded(rest, 0));
	} else if ((rest = after(line, "load-later"))) {
		done(is_loaded(rest, PROT_READ));
	} else if ((rest = after(line, "open"))) {
		open_library(rest);
	} else if ((rest = after(line, "flap"))) {
		static char kept[4096];
		snprintf(kept, sizeof kept, "%s", rest);
		done(relative(flap_for_ever, kept));
	} else if ((rest = after(line, "sibling"))) {
		done(relative(stay, NULL) < 0 ? -1 : become_user((unsigned)atoi(rest)));
	} else if ((rest = after(line, "thread"))) {
		done(another_thread() < 0 ? -1 : become_user((unsigned)atoi(rest)));
	} else if ((rest = after(line, "poke-other"))) {
		done(poke_other(atoi(rest)));
	} else if ((rest = after(line, "write-text"))) {
		done(write_text(atoi(rest)));
	} else if ((rest = after(line, "write-data"))) {
		done(write_data(atoi(rest)));
	} else if ((rest = after(line, "force"))) {
		done(force(rest));
	} else if ((rest = after(line, "trace"))) {
		done((int)ptrace(PTRACE_SEIZE, atoi(rest), NULL, NULL));
	} else if ((rest = after(line, "stall"))) {
		stall(rest);
	} else if ((rest = after(line, "hold"))) {
		done(hold(rest));
	} else if ((rest = after(line, "rename"))) {
		done(rename_self(rest));
	} else if ((rest = after(line, "spoof"))) {
		done(spoof(rest));
	} else if (strcmp(line, "receive") == 0) {
		receive_packet();
	} else if (strcmp(line, "poke") == 0) {
		done(poke());
	} else if (strcmp(line, "restore") == 0) {
		done(poke() < 0 ? -1 : madvise(text_page(), PAGE, MADV_DONTNEED));
	} else if (strcmp(line, "jit") == 0) {
		done(jit());
	} else if (strcmp(line, "another") == 0) {
		say("%d", (int)another_thread());
	} else if (strcmp(line, "value") == 0) {
		say("%ld", value);
	} else if (strcmp(line, "leave") == 0) {
		leave();
	} else if (strcmp(line, "namespaces") == 0) {
		done(namespaces());
	} else if (strcmp(line, "pid") == 0) {
		say("%d", (int)getpid());
	} else if (strcmp(line, "close-job") == 0) {
		done(close(job));
	} else if (strcmp(line, "shut-job") == 0) {
		done(shutdown(job, SHUT_RDWR));
	} else if (strcmp(line, "close") == 0) {
		close(channel);
		done(0);
	} else {
		say("unknown %s", line);
	}
}

int main(int count, char **words)
{
	static char line[MOST];
	arguments = count ? words : NULL;
	say("ready");
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		obey(line);
	}
	return 0;
}
