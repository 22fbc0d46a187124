#include "textflag.h"

// A C signal handler: DI signal, SI siginfo (si_code at 8), DX context.
TEXT faultTrampoline<>(SB), NOSPLIT|NOFRAME, $0
	MOVL 8(SI), AX
	CMPL AX, $0
	JLE  sent
	MOVQ ·runtimeHandler(SB), AX
	JMP  AX
sent:
	RET

// func faultTrampolineAddress() uintptr
TEXT ·faultTrampolineAddress(SB), NOSPLIT, $0-8
	MOVQ $faultTrampoline<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// A C signal handler.
TEXT returnTrampoline<>(SB), NOSPLIT|NOFRAME, $0
	RET

// func returnTrampolineAddress() uintptr
TEXT ·returnTrampolineAddress(SB), NOSPLIT, $0-8
	MOVQ $returnTrampoline<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
