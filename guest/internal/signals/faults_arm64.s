#include "textflag.h"

// A C signal handler: R0 signal, R1 siginfo (si_code at 8), R2 context.
TEXT faultTrampoline<>(SB), NOSPLIT|NOFRAME, $0
	MOVW 8(R1), R3
	CMPW $0, R3
	BLE  sent
	MOVD ·runtimeHandler(SB), R3
	JMP  (R3)
sent:
	RET

// func faultTrampolineAddress() uintptr
TEXT ·faultTrampolineAddress(SB), NOSPLIT, $0-8
	MOVD $faultTrampoline<>(SB), R3
	MOVD R3, ret+0(FP)
	RET

// A C signal handler.
TEXT returnTrampoline<>(SB), NOSPLIT|NOFRAME, $0
	RET

// func returnTrampolineAddress() uintptr
TEXT ·returnTrampolineAddress(SB), NOSPLIT, $0-8
	MOVD $returnTrampoline<>(SB), R0
	MOVD R0, ret+0(FP)
	RET
