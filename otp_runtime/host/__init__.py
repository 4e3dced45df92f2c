"""Floor 1': effects. Bytes, descriptors and OS processes; no rules of OTP live here."""
