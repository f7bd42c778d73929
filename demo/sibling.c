/* Another program that the operator knows, and that is not the payment program. */
#define PROGRAM_NAME "sibling"
#include "payments.c"
