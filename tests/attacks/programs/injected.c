/* A library that somebody else brings into a program: by LD_PRELOAD, or as an auditor of its
 * linker (rtld-audit(7)).
 *
 * Build: gcc -O2 -shared -fPIC -Wall -Wextra -Werror -o injected.so injected.c
 */
#define _GNU_SOURCE
#include <link.h>
#include <unistd.h>

unsigned int la_version(unsigned int version)
{
	return getpid() > 0 ? version : 0; /* so that it needs a C library */
}
