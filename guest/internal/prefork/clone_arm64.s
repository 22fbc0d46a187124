#include "textflag.h"

// func clone(arguments *cloneArguments, size uintptr, order *order) (result uintptr)
//
// The new process comes back from the same call with 0 and its own stack, which holds nothing to return to.
TEXT ·clone(SB), NOSPLIT, $0-32
	MOVD	arguments+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	order+16(FP), R19
	MOVD	$435, R8 // clone3
	SVC
	CBZ	R0, child
	MOVD	R0, result+24(FP)
	RET
child:
	SUB	$32, RSP
	MOVD	R19, 8(RSP)
	CALL	·become(SB)
	BRK
