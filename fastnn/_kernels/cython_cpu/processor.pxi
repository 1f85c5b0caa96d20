cdef extern from "processor.h":
    int processor_level() noexcept nogil

PROCESSOR_LEVEL = processor_level()
