# The compiled module of build_ffi.py: its types are C's, so they end as Any in key_wrap.py.
from typing import Any

ffi: Any
lib: Any
