/* ua_server.c: one OPC UA server, owned by one thread.
 *
 * States: starting, serving, stopping. bf_ua_server_start makes the thread and waits; the thread makes the server, says how that went and
 * iterates until it is told to stop; then it deletes the server and ends. Only that thread calls open62541. */
#include "ua_memory.h"

#include <assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "bifrost_ua.h"
#include "open62541.h"

#define STACK_BYTES ((size_t)1 << 20) /* the library's deepest path, RSA in mbedTLS, takes a tenth of it */
#define WAKE_PERIOD_MS 100.0          /* how long an idle server takes at most to see that it is to stop */
#define KEY_BITS 2048

struct bf_ua_server {
    pthread_t thread;
    sem_t started;
    _Atomic bool stop;
    UA_StatusCode status; /* of the start; written before `started` is posted */
    uint16_t port;        /* likewise */
    uint16_t sessions_max;
    bool self_signed;
    UA_String url;
    UA_ServerConfig config; /* until the library takes it; too large for a stack frame */
};

/* The library reports here what its status codes say too; a gateway's log has its own way. */
static void log_nothing(void *context, UA_LogLevel level, UA_LogCategory category, const char *message, va_list arguments) {
    (void)context;
    (void)level;
    (void)category;
    (void)message;
    (void)arguments;
}

static UA_Logger silent = {.log = log_nothing};

/* Makes a certificate and key that live as long as the server. OPC 10000-6, 6.2.2: its URI is the ApplicationUri. */
static UA_StatusCode make_certificate(UA_ByteString *key, UA_ByteString *certificate) {
    UA_String subject[] = {UA_STRING_STATIC("O=Bifrost"), UA_STRING_STATIC("CN=Bifrost")};
    UA_String names[] = {UA_STRING_STATIC("DNS:localhost"), UA_STRING_STATIC("URI:urn:open62541.server.application")};
    UA_UInt16 bits = KEY_BITS;
    UA_KeyValueMap parameters = UA_KEYVALUEMAP_NULL;
    UA_StatusCode status =
        UA_KeyValueMap_setScalar(&parameters, UA_QUALIFIEDNAME(0, "key-size-bits"), &bits, &UA_TYPES[UA_TYPES_UINT16]);
    if (status == UA_STATUSCODE_GOOD) {
        status = UA_CreateCertificate(&silent, subject, 2, names, 2, UA_CERTIFICATEFORMAT_DER, &parameters, key, certificate);
    }
    UA_KeyValueMap_clear(&parameters);
    return status;
}

/* Fills `config`; on failure the caller still has to give it to the library to be cleared. */
static UA_StatusCode configure(UA_ServerConfig *config, const bf_ua_server *server) {
    config->logging = &silent;
    /* The library would make this itself, but use it unchecked when there is no memory. */
    UA_StatusCode status = UA_Nodestore_HashMap(&config->nodestore);
    if (status != UA_STATUSCODE_GOOD) {
        return status;
    }
    if (server->self_signed) {
        UA_ByteString key = UA_BYTESTRING_NULL;
        UA_ByteString certificate = UA_BYTESTRING_NULL;
        status = make_certificate(&key, &certificate);
        if (status == UA_STATUSCODE_GOOD) {
            status = UA_ServerConfig_setDefaultWithSecurityPolicies(config, 0, &certificate, &key, NULL, 0, NULL, 0, NULL, 0);
        }
        UA_ByteString_clear(&key);
        UA_ByteString_clear(&certificate);
    } else {
        status = UA_ServerConfig_setMinimal(config, 0, NULL);
    }
    if (status != UA_STATUSCODE_GOOD) {
        return status;
    }
    config->maxSessions = server->sessions_max;
    config->maxSecureChannels = server->sessions_max;
    /* The default listens on every interface. */
    UA_Array_delete(config->serverUrls, config->serverUrlsSize, &UA_TYPES[UA_TYPES_STRING]);
    config->serverUrls = NULL;
    config->serverUrlsSize = 0;
    return UA_Array_appendCopy((void **)&config->serverUrls, &config->serverUrlsSize, &server->url, &UA_TYPES[UA_TYPES_STRING]);
}

/* Returns the port of the first address the server found itself listening on; 0 if it found none. */
static uint16_t listening_port(UA_Server *library) {
    const UA_ApplicationDescription *application = &UA_Server_getConfig(library)->applicationDescription;
    for (size_t index = 0; index < application->discoveryUrlsSize; index++) {
        UA_String host = UA_STRING_NULL;
        UA_String path = UA_STRING_NULL;
        UA_UInt16 port = 0;
        UA_StatusCode status = UA_parseEndpointUrl(&application->discoveryUrls[index], &host, &port, &path);
        if (status == UA_STATUSCODE_GOOD && port != 0) {
            return port;
        }
    }
    return 0;
}

static void wake(UA_Server *library, void *context) {
    (void)library;
    (void)context; /* coming back from the wait is all it is for */
}

/* Makes a server that listens; NULL and the reason if that is not possible. */
static UA_Server *make_server(bf_ua_server *server) {
    server->status = configure(&server->config, server);
    if (server->status != UA_STATUSCODE_GOOD) {
        UA_ServerConfig_clean(&server->config);
        return NULL;
    }
    UA_Server *library = UA_Server_newWithConfig(&server->config); /* takes what it holds, also when it fails */
    if (library == NULL) {
        server->status = UA_STATUSCODE_BADOUTOFMEMORY;
        return NULL;
    }
    server->status = UA_Server_addRepeatedCallback(library, wake, NULL, WAKE_PERIOD_MS, NULL);
    if (server->status == UA_STATUSCODE_GOOD) {
        server->status = UA_Server_run_startup(library);
    }
    if (server->status == UA_STATUSCODE_GOOD) {
        server->port = listening_port(library);
        if (server->port == 0) { /* no address could be bound; the library only logs it */
            UA_Server_run_shutdown(library);
            server->status = UA_STATUSCODE_BADCOMMUNICATIONERROR;
        }
    }
    if (server->status != UA_STATUSCODE_GOOD) {
        UA_Server_delete(library);
        return NULL;
    }
    return library;
}

static void *run(void *argument) {
    bf_ua_server *server = argument;
    UA_Server *library = make_server(server);
    sem_post(&server->started);
    if (library != NULL) {
        while (!atomic_load(&server->stop)) {
            UA_Server_run_iterate(library, true);
        }
        UA_Server_run_shutdown(library);
        UA_Server_delete(library);
    }
    return NULL;
}

/* Starts the thread with every signal blocked: signals belong to Python. */
static int start_thread(bf_ua_server *server) {
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int failed = pthread_attr_init(&attributes);
    if (failed != 0) {
        return failed;
    }
    sigfillset(&all);
    failed = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (failed == 0) {
        pthread_sigmask(SIG_SETMASK, &all, &before);
        failed = pthread_create(&server->thread, &attributes, run, server);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    pthread_attr_destroy(&attributes);
    return failed;
}

static void discard(bf_ua_server *server) {
    sem_destroy(&server->started);
    UA_String_clear(&server->url);
    free(server);
}

uint32_t bf_ua_server_start(const bf_ua_config *config, bf_ua_server **server) {
    assert(config != NULL && config->url != NULL);
    assert(server != NULL);
    if (config->sessions_max < 1 || config->sessions_max > 1000) {
        return UA_STATUSCODE_BADINVALIDARGUMENT;
    }
    bf_ua_memory_hook();
    bf_ua_server *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    made->sessions_max = config->sessions_max;
    made->self_signed = config->self_signed != 0;
    made->url = UA_String_fromChars(config->url);
    if (sem_init(&made->started, 0, 0) != 0 || made->url.data == NULL || start_thread(made) != 0) {
        discard(made);
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    while (sem_wait(&made->started) != 0) { /* only a signal of this thread comes between */
    }
    UA_StatusCode status = made->status;
    if (status != UA_STATUSCODE_GOOD) {
        pthread_join(made->thread, NULL);
        discard(made);
        return status;
    }
    *server = made;
    return UA_STATUSCODE_GOOD;
}

uint16_t bf_ua_server_port(const bf_ua_server *server) {
    assert(server != NULL);
    return server->port;
}

void bf_ua_server_stop(bf_ua_server *server) {
    assert(server != NULL);
    atomic_store(&server->stop, true);
    pthread_join(server->thread, NULL);
    discard(server);
}

#define TEXT_OF(number) #number
#define VERSION(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *bf_ua_version(void) {
    return VERSION(UA_OPEN62541_VER_MAJOR, UA_OPEN62541_VER_MINOR, UA_OPEN62541_VER_PATCH);
}
