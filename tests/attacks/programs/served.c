/* A file server of a user's own: a FUSE file system with one program in it, which stops answering
 * when it is told to.
 *
 *   served DIRECTORY FILE     mount DIRECTORY; DIRECTORY/program is root's and has FILE's bytes
 *   kill -USR1                answer nothing any more
 *
 * What is opened with O_SYNC has no pages in common with other openings, and nothing that is
 * written is ever taken: who has the kernel give such pages up waits for ever.
 *
 * Build: gcc -O2 -static -Wall -Wextra -Werror -o served served.c
 * Protocol: linux/fuse.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MOST = 1 << 20, PROGRAM = 2 };

static int device;
static char *bytes;
static size_t length;

static void fall_silent(int number)
{
	(void)number;
	for (;;)
		pause();
}

static void answer(const struct fuse_in_header *request, int error, const void *data, size_t size)
{
	struct fuse_out_header head = {.len = (unsigned)(sizeof head + (error ? 0 : size)),
				       .error = -error, .unique = request->unique};
	struct iovec parts[] = {{&head, sizeof head}, {(void *)data, error ? 0 : size}};
	if (writev(device, parts, 2) < 0)
		perror("answer");
}

static struct fuse_attr attributes(uint64_t node)
{
	struct fuse_attr one = {.ino = node, .nlink = 1, .blksize = 4096};
	one.mode = node == PROGRAM ? S_IFREG | 0755 : S_IFDIR | 0755;
	one.size = node == PROGRAM ? length : 0;
	return one;
}

static void serve(const struct fuse_in_header *request, const char *body)
{
	struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION, .minor = 31,
				     .max_readahead = 65536, .max_write = 65536};
	struct fuse_entry_out entry = {.nodeid = PROGRAM, .entry_valid = 3600};
	struct fuse_attr_out found = {0};
	struct fuse_open_out opened = {0};
	struct fuse_statfs_out space = {.st = {.bsize = 4096, .namelen = 255}};
	const struct fuse_read_in *wanted = (const struct fuse_read_in *)body;
	const struct fuse_open_in *how = (const struct fuse_open_in *)body;
	switch (request->opcode) {
	case FUSE_INIT:
		answer(request, 0, &init, sizeof init);
		break;
	case FUSE_LOOKUP:
		entry.attr = attributes(PROGRAM);
		answer(request, strcmp(body, "program") ? ENOENT : 0, &entry, sizeof entry);
		break;
	case FUSE_GETATTR: /* attr_valid is 0: whoever wants to know has to ask each time */
		found.attr = attributes(request->nodeid);
		answer(request, 0, &found, sizeof found);
		break;
	case FUSE_OPEN:
		opened.open_flags = (how->flags & O_SYNC) == O_SYNC ? FOPEN_DIRECT_IO : 0;
		answer(request, 0, &opened, sizeof opened);
		break;
	case FUSE_WRITE:
		break;
	case FUSE_OPENDIR:
		answer(request, 0, &opened, sizeof opened);
		break;
	case FUSE_READ:
		if (wanted->offset >= length)
			answer(request, 0, NULL, 0);
		else if (length - wanted->offset < wanted->size)
			answer(request, 0, bytes + wanted->offset, length - wanted->offset);
		else
			answer(request, 0, bytes + wanted->offset, wanted->size);
		break;
	case FUSE_STATFS:
		answer(request, 0, &space, sizeof space);
		break;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_ACCESS:
		answer(request, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		answer(request, ENOSYS, NULL, 0);
	}
}

static int read_file(const char *path)
{
	struct stat status;
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0 || fstat(file, &status) < 0)
		return -1;
	length = (size_t)status.st_size;
	bytes = malloc(length);
	return read(file, bytes, length) == (ssize_t)length ? 0 : -1;
}

int main(int count, char **words)
{
	static char request[MOST];
	char options[128];
	if (count != 3 || read_file(words[2]) < 0 || (device = open("/dev/fuse", O_RDWR)) < 0) {
		perror("served");
		return 1;
	}
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		 device);
	if (mount("served", words[1], "fuse", MS_NODEV | MS_NOSUID, options) < 0) {
		perror("mount");
		return 1;
	}
	signal(SIGUSR1, fall_silent);
	puts("ready");
	fflush(stdout);
	for (;;) {
		ssize_t size = read(device, request, sizeof request);
		if (size >= (ssize_t)sizeof(struct fuse_in_header))
			serve((const struct fuse_in_header *)request,
			      request + sizeof(struct fuse_in_header));
		else if (errno == ENODEV)
			return 0; /* unmounted */
	}
}
