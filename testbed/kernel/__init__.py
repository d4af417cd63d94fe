"""What a Linux kernel does by its own timers and limits, as rules without I/O.

The simulation has no kernel, and the emulation's must not look at the real clock: both ask here, so
that neither world can drift from the other. The kernel under the real clock is the reference
(`benchmarks/real_clock.py`).
"""
