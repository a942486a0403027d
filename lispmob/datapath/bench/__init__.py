"""Programs that measure the datapath without a control plane, for the laboratory."""
