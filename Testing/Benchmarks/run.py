"""Seconds, memory and energy of a segmentation, beside other tools and the limits of this machine.

python Testing/Benchmarks/run.py --task heart --against nnunet-2d
"""

if __name__ == "__main__":  # each process that measures begins with this file, too, and what it imports would count
    from compare.run import main

    main()
