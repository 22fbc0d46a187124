#include "textflag.h"

// func clone(arguments *cloneArguments, size uintptr, order *order) (result uintptr)
//
// The new process comes back from the same call with 0 and its own stack, which holds nothing to return to.
TEXT ·clone(SB), NOSPLIT, $0-32
	MOVQ	arguments+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	order+16(FP), R12
	MOVL	$435, AX // clone3
	SYSCALL
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, result+24(FP)
	RET
child:
	SUBQ	$16, SP
	MOVQ	R12, 0(SP)
	CALL	·become(SB)
	INT	$3
