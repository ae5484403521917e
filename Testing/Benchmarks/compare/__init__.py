"""What a segmentation costs, beside other tools in the same run and beside the limits of the machine."""
