/* ua_security.c: policies, endpoints, and whose certificate is trusted.
 *
 * Part of ua_unit.c. Folders are read at each handshake, so that moving a file trusts its owner at once. They are read here and not by the
 * library, to which one file that is no certificate makes all clients strangers; it checks the chain with what was read. A certificate that
 * is refused is put into the rejected folder, whose files are counted: the oldest goes for the newest. */

#define FOLDER_FILES_MAX 1000
#define FILE_BYTES_MAX 65536 /* of one certificate or revocation list */
#define THUMBPRINT_TEXT 40 /* SHA-1 in hex; OPC 10000-6, 6.2.2 names certificates by it */

typedef enum { READS_CERTIFICATES, READS_REVOCATIONS } folder_kind;

/* ---- folders -------------------------------------------------------------------------------------------------------------------- */

/* Reads a file of `directory` whole; an empty string if it is too long or not to be had. A NUL follows: PEM needs it. */
static UA_ByteString file_read(DIR *directory, const char *name) {
    UA_ByteString bytes = UA_BYTESTRING_NULL;
    int fd = openat(dirfd(directory), name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat about;
    if (fd >= 0 && fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > 0 && about.st_size <= FILE_BYTES_MAX) {
        size_t size = (size_t)about.st_size;
        uint8_t *data = calloc(1, size + 1);
        if (data != NULL && read(fd, data, size) == (ssize_t)size) {
            bytes = (UA_ByteString){size, data};
        } else {
            free(data);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return bytes;
}

/* Parses the files of `folder` into `target`; what is none of the kind is passed over. False: there is no such folder. */
static bool folder_read(const char *folder, folder_kind kind, void *target) {
    DIR *directory = opendir(folder);
    if (directory == NULL) {
        return false;
    }
    const struct dirent *entry;
    for (unsigned files = 0; files < FOLDER_FILES_MAX && (entry = readdir(directory)) != NULL; files++) {
        UA_ByteString bytes = entry->d_name[0] == '.' ? UA_BYTESTRING_NULL : file_read(directory, entry->d_name);
        if (bytes.length == 0) {
            continue;
        }
        bool is_pem = strstr((const char *)bytes.data, "-----BEGIN") != NULL;
        size_t size = bytes.length + (is_pem ? 1 : 0);
        if (kind == READS_CERTIFICATES) {
            (void)mbedtls_x509_crt_parse(target, bytes.data, size);
        } else {
            (void)mbedtls_x509_crl_parse(target, bytes.data, size);
        }
        free(bytes.data);
    }
    closedir(directory);
    return true;
}

static UA_StatusCode folders_read(bf_ua_server *server) {
    CertInfo *lists = server->folders.context;
    mbedtls_x509_crt_free(&lists->certificateTrustList);
    mbedtls_x509_crt_free(&lists->certificateIssuerList);
    mbedtls_x509_crl_free(&lists->certificateRevocationList);
    mbedtls_x509_crt_init(&lists->certificateTrustList);
    mbedtls_x509_crt_init(&lists->certificateIssuerList);
    mbedtls_x509_crl_init(&lists->certificateRevocationList);
    bool there = folder_read(server->config.trusted_folder, READS_CERTIFICATES, &lists->certificateTrustList);
    there = folder_read(server->config.issuers_folder, READS_CERTIFICATES, &lists->certificateIssuerList) && there;
    there = folder_read(server->config.revoked_folder, READS_REVOCATIONS, &lists->certificateRevocationList) && there;
    return there ? UA_STATUSCODE_GOOD : UA_STATUSCODE_BADSECURITYCHECKSFAILED;
}

/* ---- what was refused ----------------------------------------------------------------------------------------------------------- */

static bool is_older(struct timespec left, struct timespec right) {
    return left.tv_sec < right.tv_sec || (left.tv_sec == right.tv_sec && left.tv_nsec < right.tv_nsec);
}

/* Deletes the oldest file of `directory` if it holds `count_max` or more. */
static void folder_trim(DIR *directory, uint32_t count_max) {
    char oldest[NAME_MAX + 1] = "";
    struct timespec oldest_time = {0};
    uint32_t count = 0;
    const struct dirent *entry;
    while (count < FOLDER_FILES_MAX && (entry = readdir(directory)) != NULL) {
        struct stat about;
        if (fstatat(dirfd(directory), entry->d_name, &about, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(about.st_mode)) {
            continue;
        }
        if (count == 0 || is_older(about.st_mtim, oldest_time)) {
            memcpy(oldest, entry->d_name, strlen(entry->d_name) + 1);
            oldest_time = about.st_mtim;
        }
        count++;
    }
    if (count >= count_max) {
        (void)unlinkat(dirfd(directory), oldest, 0);
    }
}

/* Puts a refused certificate into the rejected folder, whole or not at all. */
static void certificate_keep(const bf_ua_server *server, const UA_ByteString *certificate, const char *thumbprint) {
    char name[sizeof((bf_ua_event *)0)->user + 8];
    char unfinished[sizeof((bf_ua_event *)0)->user + 8];
    snprintf(name, sizeof name, "%s.der", thumbprint);
    snprintf(unfinished, sizeof unfinished, ".%s.new", thumbprint);
    DIR *directory = opendir(server->config.rejected_folder);
    if (directory == NULL) {
        return;
    }
    int folder = dirfd(directory);
    if (faccessat(folder, name, F_OK, 0) != 0) {
        folder_trim(directory, server->config.limits.rejected_certificates_max);
    }
    int fd = openat(folder, unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        bool written = write(fd, certificate->data, certificate->length) == (ssize_t)certificate->length;
        close(fd);
        if (!written || renameat(folder, unfinished, folder, name) != 0) {
            (void)unlinkat(folder, unfinished, 0);
        }
    }
    closedir(directory);
}

/* Writes the subject of a certificate; false if it is none. Not in its caller's frame: a parsed certificate is large. */
__attribute__((noinline)) static bool certificate_subject(const UA_ByteString *certificate, char *out, size_t size) {
    mbedtls_x509_crt parsed;
    mbedtls_x509_crt_init(&parsed);
    bool is_one = mbedtls_x509_crt_parse_der(&parsed, certificate->data, certificate->length) == 0;
    if (is_one) {
        (void)mbedtls_x509_dn_gets(out, size, &parsed.subject);
    }
    mbedtls_x509_crt_free(&parsed);
    return is_one;
}

static void certificate_report(bf_ua_server *server, const UA_ByteString *certificate, UA_StatusCode status) {
    bf_ua_event event = {.kind = BF_UA_EVENT_CERTIFICATE_REJECTED, .status = status};
    uint8_t digest[THUMBPRINT_TEXT / 2];
    bool is_one = certificate_subject(certificate, event.client, sizeof event.client);
    if (mbedtls_sha1(certificate->data, certificate->length, digest) == 0) {
        for (size_t i = 0; i < sizeof digest; i++) {
            snprintf(event.user + 2 * i, 3, "%02X", digest[i]);
        }
        if (is_one && certificate->length <= FILE_BYTES_MAX) { /* what is no certificate nobody can want to trust */
            certificate_keep(server, certificate, event.user);
        }
    }
    server->counts.certificates_rejected++;
    (void)event_put(server, &event, NULL);
}

/* ---- the library's questions ---------------------------------------------------------------------------------------------------- */

static UA_StatusCode certificate_verify(const UA_CertificateVerification *verification, const UA_ByteString *certificate) {
    bf_ua_server *server = verification->context;
    if (server->config.certificate == NULL) { /* no secure policy: nobody needs to show one, and nobody is believed */
        return UA_STATUSCODE_BADSECURITYCHECKSFAILED;
    }
    UA_StatusCode status = folders_read(server);
    if (status == UA_STATUSCODE_GOOD) {
        status = server->folders.verifyCertificate(&server->folders, certificate);
    }
    if (status != UA_STATUSCODE_GOOD && status != UA_STATUSCODE_BADOUTOFMEMORY) {
        certificate_report(server, certificate, status);
    }
    return status;
}

static UA_StatusCode certificate_verify_uri(const UA_CertificateVerification *verification, const UA_ByteString *certificate,
                                            const UA_String *uri) {
    bf_ua_server *server = verification->context;
    if (server->config.certificate == NULL) {
        return UA_STATUSCODE_GOOD;
    }
    return server->folders.verifyApplicationURI(&server->folders, certificate, uri);
}

/* X.509 users are not offered; whoever shows one is not let in. */
static UA_StatusCode certificate_refuse(const UA_CertificateVerification *verification, const UA_ByteString *certificate) {
    (void)verification, (void)certificate;
    return UA_STATUSCODE_BADIDENTITYTOKENREJECTED;
}

static void verification_clear(UA_CertificateVerification *verification) {
    bf_ua_server *server = verification->context;
    if (server->folders.clear != NULL) {
        server->folders.clear(&server->folders);
        server->folders.clear = NULL;
    }
}

static UA_StatusCode verification_install(bf_ua_server *server, UA_ServerConfig *config) {
    if (config->secureChannelPKI.clear != NULL) {
        config->secureChannelPKI.clear(&config->secureChannelPKI);
    }
    if (config->sessionPKI.clear != NULL) {
        config->sessionPKI.clear(&config->sessionPKI);
    }
    config->secureChannelPKI = (UA_CertificateVerification){.context = server,
                                                            .logging = config->logging,
                                                            .verifyCertificate = certificate_verify,
                                                            .verifyApplicationURI = certificate_verify_uri,
                                                            .clear = verification_clear};
    config->sessionPKI = (UA_CertificateVerification){.context = server,
                                                      .logging = config->logging,
                                                      .verifyCertificate = certificate_refuse,
                                                      .verifyApplicationURI = certificate_verify_uri};
    if (server->config.certificate == NULL) {
        return UA_STATUSCODE_GOOD;
    }
    server->folders.logging = config->logging;
    UA_StatusCode status = UA_CertificateVerification_Trustlist(&server->folders, NULL, 0, NULL, 0, NULL, 0);
    return status == UA_STATUSCODE_GOOD ? folders_read(server) : status;
}

/* ---- policies and endpoints ----------------------------------------------------------------------------------------------------- */

typedef UA_StatusCode (*policy_add)(UA_ServerConfig *config, const UA_ByteString *certificate, const UA_ByteString *key);

typedef struct {
    uint32_t bit;
    UA_Byte level; /* SecurityLevel of Sign; SignAndEncrypt has ten more. OPC 10000-4, 7.14 */
    policy_add add;
    UA_String uri;
} policy_entry;

static UA_StatusCode endpoints_add(UA_ServerConfig *config, const policy_entry *policy) {
    for (UA_MessageSecurityMode mode = UA_MESSAGESECURITYMODE_SIGN; mode <= UA_MESSAGESECURITYMODE_SIGNANDENCRYPT; mode++) {
        UA_StatusCode status = UA_ServerConfig_addEndpoint(config, policy->uri, mode);
        if (status != UA_STATUSCODE_GOOD) {
            return status;
        }
        UA_Byte level = (UA_Byte)(policy->level + (mode == UA_MESSAGESECURITYMODE_SIGNANDENCRYPT ? 10 : 0));
        config->endpoints[config->endpointsSize - 1].securityLevel = level;
    }
    return UA_STATUSCODE_GOOD;
}

static UA_StatusCode policies_add(bf_ua_server *server, UA_ServerConfig *config) {
    const policy_entry entries[] = {
        {BF_UA_POLICY_BASIC256SHA256, 1, UA_ServerConfig_addSecurityPolicyBasic256Sha256,
         UA_STRING_STATIC("http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256")},
        {BF_UA_POLICY_AES128_SHA256_RSAOAEP, 2, UA_ServerConfig_addSecurityPolicyAes128Sha256RsaOaep,
         UA_STRING_STATIC("http://opcfoundation.org/UA/SecurityPolicy#Aes128_Sha256_RsaOaep")},
        {BF_UA_POLICY_AES256_SHA256_RSAPSS, 3, UA_ServerConfig_addSecurityPolicyAes256Sha256RsaPss,
         UA_STRING_STATIC("http://opcfoundation.org/UA/SecurityPolicy#Aes256_Sha256_RsaPss")},
    };
    UA_ByteString certificate = {server->config.certificate_bytes, (UA_Byte *)(uintptr_t)server->config.certificate};
    UA_ByteString key = {server->config.key_bytes, (UA_Byte *)(uintptr_t)server->config.key};
    bool offers_none = (server->config.policies & BF_UA_POLICY_NONE) != 0;
    /* GetEndpoints needs a channel without security (OPC 10000-4, 5.4.4); unless it is configured, nothing more is done on it. */
    UA_StatusCode status = UA_ServerConfig_addSecurityPolicyNone(config, certificate.length > 0 ? &certificate : NULL);
    config->securityPolicyNoneDiscoveryOnly = !offers_none;
    if (status == UA_STATUSCODE_GOOD && offers_none) {
        status = UA_ServerConfig_addEndpoint(config, UA_SECURITY_POLICY_NONE_URI, UA_MESSAGESECURITYMODE_NONE);
    }
    if (server->config.policies == BF_UA_POLICY_NONE && certificate.length > 0 && status == UA_STATUSCODE_GOOD) {
        status = entries[0].add(config, &certificate, &key); /* has no endpoint: it encrypts passwords on the open channel */
    }
    for (size_t i = 0; i < sizeof entries / sizeof *entries && status == UA_STATUSCODE_GOOD; i++) {
        if ((server->config.policies & entries[i].bit) != 0) {
            status = entries[i].add(config, &certificate, &key);
            status = status == UA_STATUSCODE_GOOD ? endpoints_add(config, &entries[i]) : status;
        }
    }
    return status;
}

static UA_StatusCode security_install(bf_ua_server *server, UA_ServerConfig *config) {
    UA_StatusCode status = verification_install(server, config);
    if (status == UA_STATUSCODE_GOOD && server->config.certificate != NULL) {
        UA_ByteString certificate = {server->config.certificate_bytes, (UA_Byte *)(uintptr_t)server->config.certificate};
        UA_String uri = UA_STRING((char *)(uintptr_t)server->config.application_uri);
        status = certificate_verify_uri(&config->secureChannelPKI, &certificate, &uri);
    }
    return status == UA_STATUSCODE_GOOD ? policies_add(server, config) : status;
}
