/* replay.c - runs a fuzz target over the files of its corpus, as TAP */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned count;

/* A copy of exactly the right size, so that a sanitizer sees the first byte read too many. */
static int run_file(const char *path, const char *name)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    uint8_t *data;
    size_t size;

    if (!f || fstat(fileno(f), &st) < 0) {
        printf("Bail out! %s: %s\n", path, strerror(errno));
        return 1;
    }
    size = (size_t)st.st_size;
    data = malloc(size ? size : 1);
    if (!data || fread(data, 1, size, f) != size) {
        printf("Bail out! %s: cannot be read\n", path);
        return 1;
    }
    fclose(f);
    /* A target that fails ends the process; the name says on which file. */
    printf("# %s\n", name);
    fflush(stdout);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
    printf("ok %u - %s\n", ++count, name);
    return 0;
}

static int run_directory(const char *dir)
{
    struct dirent **list;
    int n = scandir(dir, &list, NULL, alphasort), bad = 0;

    if (n < 0) {
        printf("Bail out! %s: %s\n", dir, strerror(errno));
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char path[4096];
        if (list[i]->d_name[0] != '.' && !bad) {
            snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name);
            bad = run_file(path, list[i]->d_name);
        }
        free(list[i]);
    }
    free(list);
    return bad;
}

int main(int argc, char **argv)
{
    int bad = 0;

    for (int i = 1; i < argc && !bad; i++)
        bad = run_directory(argv[i]);
    if (!bad && count == 0) {
        printf("Bail out! no seeds\n");
        bad = 1;
    }
    printf("1..%u\n", count);
    return bad;
}
