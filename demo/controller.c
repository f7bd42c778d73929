/* A build's controller: it has jobs, whose steps it has launched. */
#define PROGRAM_NAME "controller"
#include "payments.c"
