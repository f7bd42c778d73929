/* A library that a user brings into a program that is not theirs to change, by LD_PRELOAD.
 *
 * Build: gcc -O2 -shared -fPIC -Wall -Wextra -o preloaded.so preloaded.c
 */
#include <stdio.h>

__attribute__((constructor)) static void be_there(void)
{
    puts("preloaded: code of the user's is in this process");
}
