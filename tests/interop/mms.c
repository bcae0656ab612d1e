/* Writes what libmms receives to standard output. */
#include <libmms/mmsx.h>
#include <stdio.h>

int main(int count, char **arguments) {
    static char bytes[65536];
    int len;
    mmsx_t *connection = count == 2 ? mmsx_connect(NULL, NULL, arguments[1], 1000000) : NULL;
    if (connection == NULL) return 1;
    while ((len = mmsx_read(NULL, connection, bytes, 4096)) > 0) {
        fwrite(bytes, 1, (size_t)len, stdout);
        fflush(stdout);
    }
    mmsx_close(connection);
    return 0;
}
