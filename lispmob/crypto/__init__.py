"""The ciphers of the control plane, from libcrypto. The one place that knows that library."""
