"""File formats: ``.pte``, delegate blobs, ``.mlpackage`` weights. Reads, inspects, writes canonically."""
