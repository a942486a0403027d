from setuptools import setup

setup(cffi_modules=["lispmob/datapath/build_ffi.py:ffibuilder"])
