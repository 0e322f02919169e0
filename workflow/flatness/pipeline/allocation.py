"""How processes that compute get memory from the system."""

#: Environment variables of every job and benchmark. glibc gives large blocks back to the system
#: when they are freed; taking them again in every step costs page faults: 15 % of VGG-11's training
#: and of its measures.
ALLOCATION = {
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
}
