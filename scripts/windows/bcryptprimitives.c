/*
 * bcryptprimitives.dll for a Wine that lacks it (before Wine 9).
 *
 * Rust's standard library takes its random numbers from ProcessPrng and loads this DLL by name
 * at start, so without it no Rust program runs at all. Windows documents ProcessPrng as never
 * failing; Wine's RtlGenRandom, exported by advapi32 as SystemFunction036, reads the kernel's
 * generator. Only the test prefix of scripts/windows-test gets this file.
 */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T length)
{
    /* One call fills at most a ULONG's worth; 1 GiB a step stays far inside it. */
    const SIZE_T step_max = (SIZE_T)1 << 30;

    while (length > 0) {
        SIZE_T step = length < step_max ? length : step_max;
        if (!SystemFunction036(buffer, (ULONG)step))
            return FALSE;
        buffer += step;
        length -= step;
    }
    return TRUE;
}
