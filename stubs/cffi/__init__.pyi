# Only what build_ffi.py calls.
from collections.abc import Sequence

class FFI:
    def cdef(self, csource: str) -> None: ...
    def set_source(
        self,
        module_name: str,
        source: str,
        *,
        sources: Sequence[str] = ...,
        include_dirs: Sequence[str] = ...,
        extra_compile_args: Sequence[str] = ...,
        extra_link_args: Sequence[str] = ...,
        libraries: Sequence[str] = ...,
        py_limited_api: bool = ...,
    ) -> None: ...
