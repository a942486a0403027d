"""Why a flow goes where it goes: `lispctl why`, `rehearse` and `lookup`."""
