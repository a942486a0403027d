# The compiled module of build_ffi.py: its types are C's, so they end as Any in engine.py.
from typing import Any

ffi: Any
lib: Any
