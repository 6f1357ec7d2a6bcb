//! Drills: real processes, real faults, and an oracle that knows what must be true afterwards.
