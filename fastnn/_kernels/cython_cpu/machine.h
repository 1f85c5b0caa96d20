/* What Cython cannot say: the network's number type, and how this module was compiled. */

#ifndef REAL
#define REAL float
#endif
typedef REAL real;
