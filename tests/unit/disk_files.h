/* disk_files.h - set-up of tests: a directory for an image and the file below it */
#pragma once

#include "unit.h"

static char dir[32], image[64], base[64];

static int setup(void **state)
{
    strcpy(dir, "/tmp/ring3-disk-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(image, sizeof(image), "%s/disk", dir);
    snprintf(base, sizeof(base), "%s/base", dir);
    return 0;
}

static int remove_files(void)
{
    unlink(image);
    unlink(base);
    return rmdir(dir);
}
