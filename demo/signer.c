/* A build's step that signs: it has its identity only as a step of the controller's. */
#define PROGRAM_NAME "signer"
#include "payments.c"
