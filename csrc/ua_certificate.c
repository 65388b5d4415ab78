/* ua_certificate.c: the server's own certificate and key, made once, before any server runs.
 *
 * The library makes them, with mbedTLS. Its subject alternative names are texts, "URI:…" and "DNS:…"; the kind "IP:" is not used, since the
 * library reads a variable there after its end (open62541 1.4, plugins/crypto/mbedtls/ua_pki_create_certificate_mbedtls.c). */
#include "ua_memory.h"

#include <assert.h>
#include <stdio.h>

#include "bifrost_ua.h"
#include "open62541.h"

#define KEY_BITS 2048 /* of RSA; what every policy that is offered takes; OPC 10000-7, 6.6 */
#define TEXT_BYTES_MAX 260 /* 255, and what stands before it */

static void log_nothing(void *context, UA_LogLevel level, UA_LogCategory category, const char *message, va_list arguments) {
    (void)context;
    (void)level;
    (void)category;
    (void)message;
    (void)arguments;
}

static UA_Logger silent = {.log = log_nothing};

static UA_StatusCode make(const char *subject, const char *uri, const char *host, uint16_t days, UA_ByteString *key,
                          UA_ByteString *certificate) {
    char texts[3][TEXT_BYTES_MAX];
    int lengths[3] = {
        snprintf(texts[0], TEXT_BYTES_MAX, "CN=%s", subject),
        snprintf(texts[1], TEXT_BYTES_MAX, "URI:%s", uri),
        snprintf(texts[2], TEXT_BYTES_MAX, "DNS:%s", host),
    };
    for (size_t i = 0; i < 3; i++) {
        if (lengths[i] < 0 || lengths[i] >= TEXT_BYTES_MAX) {
            return UA_STATUSCODE_BADINVALIDARGUMENT;
        }
    }
    UA_String subjects[] = {UA_STRING(texts[0]), UA_STRING_STATIC("O=Bifrost")};
    UA_String names[] = {UA_STRING(texts[1]), UA_STRING(texts[2])};
    UA_UInt16 bits = KEY_BITS;
    UA_KeyValueMap map = UA_KEYVALUEMAP_NULL;
    UA_StatusCode status = UA_KeyValueMap_setScalar(&map, UA_QUALIFIEDNAME(0, "key-size-bits"), &bits, &UA_TYPES[UA_TYPES_UINT16]);
    if (status == UA_STATUSCODE_GOOD) {
        status = UA_KeyValueMap_setScalar(&map, UA_QUALIFIEDNAME(0, "expires-in-days"), &days, &UA_TYPES[UA_TYPES_UINT16]);
    }
    if (status == UA_STATUSCODE_GOOD) {
        status = UA_CreateCertificate(&silent, subjects, 2, names, 2, UA_CERTIFICATEFORMAT_DER, &map, key, certificate);
    }
    UA_KeyValueMap_clear(&map);
    return status;
}

uint32_t bf_ua_certificate_make(const char *subject, const char *uri, const char *host, uint16_t days, uint8_t *certificate,
                                size_t *certificate_bytes, uint8_t *key, size_t *key_bytes) {
    assert(subject != NULL && uri != NULL && host != NULL);
    assert(certificate != NULL && certificate_bytes != NULL && key != NULL && key_bytes != NULL);
    bf_ua_memory_hook();
    UA_ByteString made_key = UA_BYTESTRING_NULL;
    UA_ByteString made = UA_BYTESTRING_NULL;
    UA_StatusCode status = make(subject, uri, host, days, &made_key, &made);
    if (status == UA_STATUSCODE_GOOD && (made.length > *certificate_bytes || made_key.length > *key_bytes)) {
        status = UA_STATUSCODE_BADOUTOFRANGE;
    }
    if (status == UA_STATUSCODE_GOOD) {
        memcpy(certificate, made.data, made.length);
        memcpy(key, made_key.data, made_key.length);
        *certificate_bytes = made.length;
        *key_bytes = made_key.length;
    }
    if (made_key.data != NULL) {
        memset(made_key.data, 0, made_key.length);
    }
    UA_ByteString_clear(&made_key);
    UA_ByteString_clear(&made);
    return status;
}
