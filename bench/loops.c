/*
 * The loops of the benchmark whose single operations are too short for an interpreter.
 *
 * Each prints "NANOSECONDS COUNT": the time of the loop alone, without the start of this process,
 * and how many objects or bytes it saw, so that the harness can tell whether all engines did the
 * same work.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (1 << 20)
#define PAGE 4096

static void die(const char *what, const char *name)
{
    fprintf(stderr, "loops: %s %s: %s\n", what, name, strerror(errno));
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static char **names;
static size_t names_len;

/* Reads all names before the clock starts. */
static void load_names(const char *list)
{
    FILE *file = fopen(list, "r");
    if (!file)
        die("open", list);
    size_t room = 0, size = 0;
    char *line = NULL;
    ssize_t len;
    while ((len = getline(&line, &size, file)) > 0) {
        line[len - 1] = '\0';
        if (names_len == room) {
            room = room ? room * 2 : 1024;
            names = realloc(names, room * sizeof *names);
        }
        names[names_len++] = strdup(line);
    }
    free(line);
    fclose(file);
}

static uint64_t stat_all(void)
{
    struct stat meta;
    for (size_t i = 0; i < names_len; i++)
        if (lstat(names[i], &meta))
            die("lstat", names[i]);
    return names_len;
}

static uint64_t stat_absent(void)
{
    struct stat meta;
    for (size_t i = 0; i < names_len; i++)
        if (!lstat(names[i], &meta) || errno != ENOENT)
            die("absent", names[i]);
    return names_len;
}

static uint64_t read_all(void)
{
    static char buffer[BLOCK];
    uint64_t total = 0;
    for (size_t i = 0; i < names_len; i++) {
        int fd = open(names[i], O_RDONLY);
        if (fd < 0)
            die("open", names[i]);
        ssize_t len;
        while ((len = read(fd, buffer, sizeof buffer)) > 0)
            total += (uint64_t)len;
        if (len < 0)
            die("read", names[i]);
        close(fd);
    }
    return total;
}

/* Many small files, 1000 to a directory. */
static uint64_t create(const char *dir, long count)
{
    static const char content[100] = "content";
    char name[4096];
    for (long i = 0; i < count; i++) {
        if (i % 1000 == 0) {
            snprintf(name, sizeof name, "%s/%ld", dir, i / 1000);
            if (mkdir(name, 0755))
                die("mkdir", name);
        }
        snprintf(name, sizeof name, "%s/%ld/file-%ld", dir, i / 1000, i);
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd < 0 || write(fd, content, sizeof content) != sizeof content || close(fd))
            die("create", name);
    }
    return (uint64_t)count;
}

/* The files that create() made, each within its directory. */
static uint64_t rename_all(const char *dir, long count)
{
    char name[4096], other[4096];
    for (long i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s/%ld/file-%ld", dir, i / 1000, i);
        snprintf(other, sizeof other, "%s/%ld/renamed-%ld", dir, i / 1000, i);
        if (rename(name, other))
            die("rename", name);
    }
    return (uint64_t)count;
}

static uint64_t list(const char *dir)
{
    static char buffer[BLOCK / 8];
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        die("open", dir);
    uint64_t count = 0;
    long len;
    while ((len = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < len; count++) {
            unsigned short step;
            memcpy(&step, buffer + at + 16, sizeof step);
            at += step;
        }
    if (len < 0)
        die("getdents64", dir);
    close(fd);
    return count;
}

static int open_or_die(const char *name, int flags)
{
    int fd = open(name, flags, 0644);
    if (fd < 0)
        die("open", name);
    return fd;
}

static uint64_t sequential(const char *name, int flags, size_t size, long count)
{
    static char buffer[BLOCK];
    memset(buffer, 'x', sizeof buffer);
    int fd = open_or_die(name, flags);
    for (long i = 0; i < count; i++) {
        ssize_t len = flags == O_RDONLY ? read(fd, buffer, size) : write(fd, buffer, size);
        if (len != (ssize_t)size)
            die("transfer", name);
    }
    close(fd);
    return (uint64_t)count * size;
}

static uint64_t random_pages(const char *name, int writing, long count)
{
    char buffer[PAGE] = "random";
    int fd = open_or_die(name, writing ? O_RDWR : O_RDONLY);
    uint64_t pages = (uint64_t)lseek(fd, 0, SEEK_END) / PAGE, state = 88172645463325252u;
    if (!pages)
        die("empty", name);
    for (long i = 0; i < count; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        off_t at = (off_t)(state % pages) * PAGE;
        ssize_t len = writing ? pwrite(fd, buffer, PAGE, at) : pread(fd, buffer, PAGE, at);
        if (len != PAGE)
            die("transfer", name);
    }
    close(fd);
    return (uint64_t)count;
}

/* One byte to the end of each of the first files of the list. */
static uint64_t append(long count)
{
    for (long i = 0; i < count; i++) {
        int fd = open_or_die(names[i % (long)names_len], O_WRONLY | O_APPEND);
        if (write(fd, "y", 1) != 1 || close(fd))
            die("append", names[i]);
    }
    return (uint64_t)count;
}

/* A byte of each page of a mapping. */
static uint64_t map(const char *name)
{
    int fd = open_or_die(name, O_RDONLY);
    struct stat meta;
    if (fstat(fd, &meta))
        die("fstat", name);
    const volatile unsigned char *bytes =
        mmap(NULL, (size_t)meta.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        die("mmap", name);
    uint64_t sum = 0;
    for (off_t at = 0; at < meta.st_size; at += PAGE)
        sum += bytes[at];
    close(fd);
    return sum;
}

/* A database's habit: a page, and wait for it. */
static uint64_t write_and_sync(const char *name, long count)
{
    char buffer[PAGE] = "page";
    int fd = open_or_die(name, O_WRONLY | O_CREAT | O_TRUNC);
    for (long i = 0; i < count; i++)
        if (write(fd, buffer, PAGE) != PAGE || fsync(fd))
            die("fsync", name);
    close(fd);
    return (uint64_t)count;
}

/* One byte: what the first change of a large file of a lower costs. */
static uint64_t touch(const char *name)
{
    int fd = open_or_die(name, O_RDWR);
    if (pwrite(fd, "y", 1, 0) != 1)
        die("pwrite", name);
    close(fd);
    return 1;
}

/* What container engines do to everything when they commit or compare a container. */
static uint64_t commit_walk(const char *dir)
{
    DIR *stream = opendir(dir);
    if (!stream)
        die("opendir", dir);
    uint64_t count = 0;
    struct dirent *entry;
    char path[4096], value[4096];
    struct stat meta;
    while ((entry = readdir(stream))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (lstat(path, &meta))
            die("lstat", path);
        if (lgetxattr(path, "security.capability", value, sizeof value) < 0 && errno != ENODATA
            && errno != EOPNOTSUPP)
            die("lgetxattr", path);
        if (llistxattr(path, value, sizeof value) < 0)
            die("llistxattr", path);
        count++;
        if (S_ISDIR(meta.st_mode))
            count += commit_walk(path);
    }
    closedir(stream);
    return count;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: loops LOOP PATH [COUNT]\n");
        return 2;
    }
    const char *loop = argv[1], *path = argv[2];
    long count = argc > 3 ? atol(argv[3]) : 0;
    int fresh = O_WRONLY | O_CREAT | O_TRUNC;
    uint64_t seen, start;
#define RUN(call) (start = now(), seen = (call))
    if (!strcmp(loop, "stat") || !strcmp(loop, "absent") || !strcmp(loop, "read")) {
        load_names(path);
        RUN(!strcmp(loop, "stat") ? stat_all() : !strcmp(loop, "read") ? read_all() : stat_absent());
    } else if (!strcmp(loop, "append")) {
        load_names(path);
        RUN(append(count));
    } else if (!strcmp(loop, "map"))
        RUN(map(path));
    else if (!strcmp(loop, "fsync"))
        RUN(write_and_sync(path, count));
    else if (!strcmp(loop, "rename"))
        RUN(rename_all(path, count));
    else if (!strcmp(loop, "create"))
        RUN(create(path, count));
    else if (!strcmp(loop, "list"))
        RUN(list(path));
    else if (!strcmp(loop, "write-blocks"))
        RUN(sequential(path, fresh, BLOCK, count));
    else if (!strcmp(loop, "read-blocks"))
        RUN(sequential(path, O_RDONLY, BLOCK, count));
    else if (!strcmp(loop, "write-pages"))
        RUN(sequential(path, fresh, PAGE, count));
    else if (!strcmp(loop, "random-reads"))
        RUN(random_pages(path, 0, count));
    else if (!strcmp(loop, "random-writes"))
        RUN(random_pages(path, 1, count));
    else if (!strcmp(loop, "touch"))
        RUN(touch(path));
    else if (!strcmp(loop, "commit-walk"))
        RUN(commit_walk(path));
    else {
        fprintf(stderr, "loops: no loop called %s\n", loop);
        return 2;
    }
    printf("%llu %llu\n", (unsigned long long)(now() - start), (unsigned long long)seen);
    return 0;
}
