"""Configurations of LISPmob, Open Overlay Router and lispers.net, read and written as ours."""
