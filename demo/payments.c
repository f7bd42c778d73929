/* The demo's programs, of which the first is the golden one: obtains a credential from the attestor, then calls a relying party
 * with a proof for each request. docs/protocol.md, sections 2 and 3; plain libc, and OpenSSL for
 * the call itself.
 *
 *   payments [-s SOCKET] [-i ID] [-a AUDIENCE] [-u BASEURL] [-c CAFILE] [-H HOST:PORT] [-t] [-k]
 *            PATH...
 *
 * Each PATH is asked for with POST. -t prints the token. -k goes on after that, with one request
 * ("METHOD PATH", or "token") for each line of its input, until its end; or about a job:
 * "job NAME" opens one, "step COMMAND" runs a command of the shell's in the background and gives
 * it the job, "run COMMAND" does not, "end" ends the job. BASEURL (the audience,
 * if that is a URL) is the relying party as it knows itself: proofs are for it, and its host must
 * be in the server's certificate; HOST:PORT is where to connect, if not there.
 *
 * It prints "granted ID level=L expires=T", "token T", "job NAME", "answer STATUS BODY", for each
 * proof "presented PROOF" with -t, and for each finding
 * "refused REASON" with indented lines. Exit status: 0 all granted and answered with 2xx,
 * 1 something was refused, 2 misused, 3 broken off.
 *
 * Build: gcc -O2 -Wall -Wextra -Werror -o payments payments.c -lssl -lcrypto
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef PROGRAM_NAME
#define PROGRAM_NAME "payments"
#endif
#define MOST 65536 /* bytes of a message of the local socket, and of an HTTP answer */

/* One byte of this is changed for the scene `patched`; the program then still runs. */
static const char banner[] = PROGRAM_NAME ": procseal demo program, revision 1";

static int channel;              /* to the attestor */
static int job = -1;             /* the descriptor that came last from there */
static char message[MOST + 1];   /* the last one from the attestor, ended by a NUL */
static const char *audience, *base, *ca_file, *address;
static int status = 0;           /* what to exit with */
static int is_showing = 0;       /* print tokens and proofs */

__attribute__((noreturn, format(printf, 2, 3))) static void die(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, PROGRAM_NAME ": ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    exit(code);
}

__attribute__((format(printf, 3, 4))) static void print_to(char *buffer, size_t size,
                                                           const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(buffer, size, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= size)
        die(2, "an argument is too long");
}

/* ---- the attestor ---- */

static void connect_to_attestor(const char *path)
{
    const char *number = getenv("PROCSEAL_FD");
    if (number) { /* launched: our end of a socket pair is open already */
        char *end;
        long descriptor = strtol(number, &end, 10);
        if (end == number || *end || descriptor < 0 || descriptor > 1 << 20)
            die(2, "PROCSEAL_FD: expected the number of a descriptor");
        channel = (int)descriptor;
        if (fcntl(channel, F_SETFD, FD_CLOEXEC) < 0)
            die(3, "PROCSEAL_FD: %s", strerror(errno));
        unsetenv("PROCSEAL_FD");
        return;
    }
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    print_to(at.sun_path, sizeof at.sun_path, "%s", path);
    channel = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (channel < 0 || connect(channel, (struct sockaddr *)&at, sizeof at) < 0)
        die(3, "cannot reach the attestor at %s: %s", path, strerror(errno));
}

/* Receive one packet, whole, without NUL, and ended by a line end. */
static void receive_message(void)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = message, .iov_len = MOST};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t length;
    do {
        packet.msg_control = &control;
        packet.msg_controllen = sizeof control;
        length = recvmsg(channel, &packet, MSG_TRUNC | MSG_CMSG_CLOEXEC);
    } while (length < 0 && errno == EINTR);
    if (length >= 0 && CMSG_FIRSTHDR(&packet))
        memcpy(&job, CMSG_DATA(CMSG_FIRSTHDR(&packet)), sizeof job);
    if (length < 0)
        die(3, "cannot hear the attestor: %s", strerror(errno));
    if (length == 0)
        die(3, "the attestor has ended the connection");
    if (length > MOST)
        die(3, "the attestor sent a message longer than %d bytes", MOST);
    message[length] = 0;
    if (strlen(message) != (size_t)length || message[length - 1] != '\n')
        die(3, "the attestor sent something that is no message");
}

/* Send one packet, with a descriptor if that is not negative. */
static void send_message(const char *text, int descriptor)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)text, .iov_len = strlen(text)};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
        packet.msg_control = &control;
        packet.msg_controllen = sizeof control;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&packet);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(rights), &descriptor, sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(channel, &packet, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EPIPE) /* EPIPE: its last words may be there to be read */
        die(3, "cannot speak to the attestor: %s", strerror(errno));
}

static int is_verb(const char *verb)
{
    char first[64];
    print_to(first, sizeof first, "procseal/1 %s\n", verb);
    return strncmp(message, first, strlen(first)) == 0;
}

/* Return a copy of the member `name` of the message, which must be there. */
static char *member(const char *name)
{
    char start[64];
    print_to(start, sizeof start, "\n%s: ", name);
    const char *found = strstr(message, start);
    if (!found)
        die(3, "the attestor's message has no member %s", name);
    found += strlen(start);
    char *value = strndup(found, strcspn(found, "\n"));
    if (!value)
        die(3, "out of memory");
    return value;
}

/* Print the findings of a refusal: groups of reason, what, expected, found. */
static void print_refusal(void)
{
    char *rest = message, *line = strsep(&rest, "\n");
    while ((line = strsep(&rest, "\n")) && *line) {
        char *value = strstr(line, ": ");
        if (!value)
            die(3, "the attestor sent a refusal that is none");
        *value = 0;
        value += 2;
        if (strcmp(line, "reason") == 0)
            printf("refused %s\n", value);
        else if (*value)
            printf("  %-9s %s\n", line, value);
    }
    status = 1;
}

static void expect(const char *verb)
{
    receive_message();
    if (is_verb("refused")) {
        print_refusal();
        exit(1); /* except of a `prove`, a refusal ends the connection */
    }
    if (!is_verb(verb))
        die(3, "expected %s, the attestor said %.40s", verb, message);
}

static void obtain(const char *id)
{
    char text[4096];
    expect("nonce");
    char *nonce = member("nonce");
    const char *name = id ? "id: " : "", *end = id ? "\n" : "";
    print_to(text, sizeof text, "procseal/1 obtain\nnonce: %s\n%s%s%s", nonce, name, id ? id : "",
             end);
    free(nonce);
    int own = open("/dev/null", O_RDONLY | O_CLOEXEC); /* only who means to can send one */
    if (own < 0)
        die(3, "/dev/null: %s", strerror(errno));
    send_message(text, own);
    close(own);
    expect("credential");
    printf("granted %s level=%s expires=%s\n", member("id"), member("level"), member("expires"));
}

static void print_token(void)
{
    send_message("procseal/1 token\n", -1);
    expect("credential");
    printf("token %s\n", member("token"));
}

/* ---- jobs ---- */

static void open_job(const char *name)
{
    char text[512];
    print_to(text, sizeof text, "procseal/1 job\nname: %s\n", name);
    send_message(text, -1);
    receive_message();
    if (is_verb("refused"))
        print_refusal();
    else if (is_verb("opened"))
        printf("job %s\n", name);
    else
        die(3, "expected opened, the attestor said %.40s", message);
}

static void end_job(void)
{
    if (shutdown(job, SHUT_RDWR) < 0 || close(job) < 0)
        die(3, "no job to end: %s", strerror(errno));
    job = -1;
}

/* Run a command in the background. All our descriptors are closed by its exec, but one. */
static void start(const char *command, int is_step)
{
    char number[16];
    pid_t child = fork();
    if (child < 0)
        die(3, "fork: %s", strerror(errno));
    if (child > 0)
        return;
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    if (is_step) {
        print_to(number, sizeof number, "%d", job);
        if (fcntl(job, F_SETFD, 0) < 0 || setenv("PROCSEAL_JOB_FD", number, 1) < 0)
            die(3, "no job to give: %s", strerror(errno));
    }
    execl("/bin/sh", "sh", "-c", command, NULL);
    die(3, "/bin/sh: %s", strerror(errno));
}

/* ---- the relying party ---- */

__attribute__((noreturn)) static void die_of_tls(const char *what)
{
    char why[256] = "connection lost";
    unsigned long code = ERR_peek_last_error();
    if (code)
        ERR_error_string_n(code, why, sizeof why);
    die(3, "%s: %s", what, why);
}

/* Connect to the relying party; its certificate must be by our CA, for the host of the base. */
static BIO *connect_to_relying_party(SSL_CTX *context)
{
    const char *authority = base + strlen("https://");
    char host[256], target[512];
    print_to(host, sizeof host, "%.*s", (int)strcspn(authority, ":"), authority);
    const char *port = strchr(authority, ':') ? "" : ":443";
    print_to(target, sizeof target, "%s%s", address ? address : authority, address ? "" : port);
    SSL *ssl = NULL;
    BIO *peer = BIO_new_ssl_connect(context);
    if (!peer || BIO_get_ssl(peer, &ssl) <= 0 || BIO_set_conn_hostname(peer, target) <= 0)
        die_of_tls("cannot prepare the connection");
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) != 1 &&
        (SSL_set1_host(ssl, host) != 1 || SSL_set_tlsext_host_name(ssl, host) != 1))
        die_of_tls("cannot ask for the host's name");
    ERR_clear_error();
    if (BIO_do_connect(peer) <= 0 || BIO_do_handshake(peer) <= 0)
        die_of_tls(target);
    return peer;
}

/* Read the answer to its end (we asked for `Connection: close`) and print status and body. */
static void print_answer(BIO *peer)
{
    static char answer[MOST + 1];
    size_t length = 0;
    int count;
    while (length < MOST && (count = BIO_read(peer, answer + length, (int)(MOST - length))) > 0)
        length += (size_t)count;
    answer[length] = 0;
    int code = 0;
    char *body = strstr(answer, "\r\n\r\n"), *announced = strcasestr(answer, "\nContent-Length:");
    if (!body || !announced || announced > body || sscanf(answer, "HTTP/1.1 %3d ", &code) != 1)
        die(3, "the relying party's answer is no HTTP answer with a length");
    body += 4;
    if (strtoul(announced + 16, NULL, 10) != strlen(body))
        die(3, "the relying party's answer was cut off");
    for (char *one = body; *one; one++)
        if ((unsigned char)*one < ' ')
            *one = ' ';
    printf("answer %d %s\n", code, body);
    if (code < 200 || code > 299)
        status = 1;
}

static void request(const char *method, const char *path)
{
    static char text[2 * MOST];
    if (!audience || !ca_file)
        die(2, "a request needs -a AUDIENCE and -c CAFILE");
    print_to(text, sizeof text, "procseal/1 prove\naudience: %s\nmethod: %s\nurl: %s%s\n", audience,
             method, base, path);
    send_message(text, -1);
    receive_message();
    if (is_verb("refused")) {
        print_refusal();
        return;
    }
    if (!is_verb("proof"))
        die(3, "expected proof, the attestor said %.40s", message);
    char *token = member("token"), *proof = member("proof");
    if (is_showing)
        printf("presented %s\n", proof);
    print_to(text, sizeof text,
             "%s %s HTTP/1.1\r\nHost: %s\r\nWorkload-Identity-Token: %s\r\n"
             "Workload-Proof-Token: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
             method, path, base + strlen("https://"), token, proof);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1)
        die_of_tls("cannot prepare TLS");
    if (SSL_CTX_load_verify_locations(context, ca_file, NULL) != 1)
        die_of_tls(ca_file);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    BIO *peer = connect_to_relying_party(context);
    if (BIO_write(peer, text, (int)strlen(text)) != (int)strlen(text))
        die_of_tls("cannot send the request");
    print_answer(peer);
    BIO_free_all(peer);
    SSL_CTX_free(context);
    free(token);
    free(proof);
}

static void follow_input(void)
{
    static char line[4096], method[33], path[2048];
    signal(SIGCHLD, SIG_IGN); /* nobody waits for what is started */
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "token") == 0)
            print_token();
        else if (strncmp(line, "job ", 4) == 0)
            open_job(line + 4);
        else if (strcmp(line, "end") == 0)
            end_job();
        else if (strncmp(line, "step ", 5) == 0)
            start(line + 5, 1);
        else if (strncmp(line, "run ", 4) == 0)
            start(line + 4, 0);
        else if (sscanf(line, "%32s %2047s", method, path) == 2 && *path == '/')
            request(method, path);
        else
            die(2, "expected a line \"METHOD /PATH\", \"token\", or one about a job");
    }
}

int main(int count, char **arguments)
{
    const char *path = "/run/procseal/attestor.sock", *id = NULL;
    int option, is_staying = 0;
    while ((option = getopt(count, arguments, "s:i:a:u:c:H:tk")) != -1)
        switch (option) {
        case 's': path = optarg; break;
        case 'i': id = optarg; break;
        case 'a': audience = optarg; break;
        case 'u': base = optarg; break;
        case 'c': ca_file = optarg; break;
        case 'H': address = optarg; break;
        case 't': is_showing = 1; break;
        case 'k': is_staying = 1; break;
        default: die(2, "misused; see the top of payments.c");
        }
    base = base ? base : audience;
    if (base && (strncmp(base, "https://", 8) != 0 || strchr(base + 8, '/')))
        die(2, "expected -u https://HOST[:PORT], or an audience of that form");
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts(banner);
    connect_to_attestor(path);
    obtain(id);
    if (is_showing)
        print_token();
    for (; optind < count; optind++)
        request("POST", arguments[optind]);
    if (is_staying)
        follow_input();
    return status;
}
