/* ua_users.c: who may log in, and what a session may do.
 *
 * Part of ua_unit.c. A password is kept as PBKDF2-HMAC-SHA256, which costs as much as its iterations; it is computed in the server's thread, so
 * the password that was right last is remembered as a keyed digest whose key is made at start: reconnects cost nothing. Failures are limited over
 * all clients; at the limit only remembered passwords are looked at. Everybody who is let in may read everything but who else is;
 * that is for the role to write, the highest there is, and so are tags that are writable; nothing else can be changed by a client. */

#define FAILURES_WINDOW (60 * UA_DATETIME_SEC)
#define USER_HISTORY_MAX 8 /* users of one session in its diagnostics; the library would keep them all */

static UA_UserTokenPolicy token_policies[] = {
    {.policyId = UA_STRING_STATIC("open62541-anonymous-policy"), .tokenType = UA_USERTOKENTYPE_ANONYMOUS},
    {.policyId = UA_STRING_STATIC("open62541-username-policy"), .tokenType = UA_USERTOKENTYPE_USERNAME},
};

/* ---- the list of users ---------------------------------------------------------------------------------------------------------- */

/* Copies `given`. BadInvalidArgument: a field is outside its range. */
static UA_StatusCode users_make(const bf_ua_user *given, uint32_t count, ua_user **out) {
    ua_user *made = calloc((size_t)count + 1, sizeof *made);
    if (made == NULL) {
        return UA_STATUSCODE_BADOUTOFMEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t length = given[i].name == NULL ? 0 : strlen(given[i].name);
        bool has_role = given[i].role == BF_UA_ROLE_READ || given[i].role == BF_UA_ROLE_WRITE;
        if (length == 0 || length > USER_NAME_BYTES || given[i].iterations == 0 || !has_role) {
            free(made);
            return UA_STATUSCODE_BADINVALIDARGUMENT;
        }
        memcpy(made[i].name, given[i].name, length);
        memcpy(made[i].salt, given[i].salt, sizeof made[i].salt);
        memcpy(made[i].hash, given[i].hash, sizeof made[i].hash);
        made[i].iterations = given[i].iterations;
        made[i].role = given[i].role;
    }
    *out = made;
    return UA_STATUSCODE_GOOD;
}

/* Which kinds of login are offered: kept in the order of token_policies. */
static void logins_offer(bf_ua_server *server, UA_AccessControl *access) {
    bool anonymous = server->anonymous != BF_UA_ROLE_NONE;
    bool named = server->users_count > 0;
    access->userTokenPolicies = anonymous ? token_policies : token_policies + 1;
    access->userTokenPoliciesSize = (anonymous ? 1u : 0u) + (named || !anonymous ? 1u : 0u);
}

/* ---- checking ------------------------------------------------------------------------------------------------------------------- */

/* Compares without telling by its time where the difference is. */
static bool bytes_equal(const uint8_t *left, const uint8_t *right, size_t count) {
    volatile uint8_t difference = 0;
    for (size_t i = 0; i < count; i++) {
        difference |= left[i] ^ right[i];
    }
    return difference == 0;
}

static ua_user *user_find(bf_ua_server *server, const UA_String *name) {
    for (uint32_t i = 0; i < server->users_count; i++) {
        UA_String other = UA_STRING(server->users[i].name);
        if (UA_String_equal(name, &other)) {
            return &server->users[i];
        }
    }
    return NULL;
}

/* Whether `password` is right. An unknown user (NULL) costs as much time as a known one. */
static bool password_check(bf_ua_server *server, ua_user *user, const UA_ByteString *password, bool may_compute) {
    const mbedtls_md_info_t *sha256 = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
    uint8_t digest[BF_UA_HASH_BYTES];
    if (mbedtls_md_hmac(sha256, server->memory_key, sizeof server->memory_key, password->data, password->length, digest) != 0) {
        return false;
    }
    if (user != NULL && user->has_remembered && bytes_equal(digest, user->remembered, sizeof digest)) {
        return true;
    }
    if (!may_compute || server->users_count == 0) {
        return false;
    }
    const ua_user *model = user == NULL ? &server->users[0] : user;
    uint8_t hash[BF_UA_HASH_BYTES];
    int failed = mbedtls_pkcs5_pbkdf2_hmac_ext(MBEDTLS_MD_SHA256, password->data, password->length, model->salt, sizeof model->salt,
                                               model->iterations, sizeof hash, hash);
    if (failed != 0 || user == NULL || !bytes_equal(hash, user->hash, sizeof hash)) {
        return false;
    }
    memcpy(user->remembered, digest, sizeof digest);
    user->has_remembered = true;
    return true;
}

/* Whether one more failure would be within the limit. */
static bool failures_allow(bf_ua_server *server) {
    UA_DateTime now = UA_DateTime_nowMonotonic();
    if (server->failures_since == 0 || now - server->failures_since > FAILURES_WINDOW) {
        server->failures_since = now;
        server->failures_count = 0;
    }
    return server->failures_count < server->config.limits.login_failures_per_minute_max;
}

static UA_StatusCode name_check(bf_ua_server *server, const UA_UserNameIdentityToken *token, uint32_t *role) {
    bool may_compute = failures_allow(server);
    ua_user *user = user_find(server, &token->userName);
    if (!password_check(server, user, &token->password, may_compute)) {
        server->failures_count++;
        if (!may_compute) {
            limit_reached(server, BF_UA_LIMIT_LOGIN_FAILURES);
        }
        return UA_STATUSCODE_BADUSERACCESSDENIED;
    }
    *role = user->role;
    return UA_STATUSCODE_GOOD;
}

/* ---- sessions ------------------------------------------------------------------------------------------------------------------- */

/* Writes the address of a connection's other end; returns its length. */
static size_t address_describe(const UA_SecureChannel *channel, char *out, size_t size) {
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    out[0] = '\0';
    if (channel != NULL && getpeername((int)channel->connectionId, (struct sockaddr *)&peer, &length) == 0) {
        const void *number = peer.ss_family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)&peer)->sin6_addr
                                                        : (const void *)&((const struct sockaddr_in *)&peer)->sin_addr;
        if (inet_ntop(peer.ss_family, number, out, (socklen_t)size) == NULL) {
            out[0] = '\0';
        }
    }
    return strlen(out);
}

/* Writes "ADDRESS APPLICATION_URI" of a session's client. */
static void client_describe(const UA_Session *session, char *out, size_t size) {
    size_t used = address_describe(session->header.channel, out, size);
    assert(used + 2 < size);
    out[used++] = ' ';
    text_copy(out + used, size - used, session->clientDescription.applicationUri);
}

/* Tells of a login that did not come as far as session_activate: a kind that is not offered, a bad signature, an unknown session. */
static void login_refused(bf_ua_server *server, const UA_SecureChannel *channel, UA_StatusCode status) {
    if (!server->login_told) {
        bf_ua_event event = {.kind = BF_UA_EVENT_LOGIN_FAILED, .status = status};
        (void)address_describe(channel, event.client, sizeof event.client);
        server->counts.logins_failed++;
        (void)event_put(server, &event, NULL);
    }
    server->login_told = false;
}

static void history_bound(UA_Session *session) {
#ifdef UA_ENABLE_DIAGNOSTICS
    UA_SessionSecurityDiagnosticsDataType *diagnostics = &session->securityDiagnostics;
    if (diagnostics->clientUserIdHistorySize >= USER_HISTORY_MAX) {
        UA_Array_delete(diagnostics->clientUserIdHistory, diagnostics->clientUserIdHistorySize, &UA_TYPES[UA_TYPES_STRING]);
        diagnostics->clientUserIdHistory = NULL;
        diagnostics->clientUserIdHistorySize = 0;
    }
#endif
}

static UA_StatusCode token_check(bf_ua_server *server, const UA_ExtensionObject *token, uint32_t *role, UA_String *name) {
    *name = UA_STRING_NULL;
    const UA_DataType *type = token->encoding == UA_EXTENSIONOBJECT_ENCODED_NOBODY ? NULL : token->content.decoded.type;
    if (type == NULL || type == &UA_TYPES[UA_TYPES_ANONYMOUSIDENTITYTOKEN]) {
        *role = server->anonymous;
        return server->anonymous == BF_UA_ROLE_NONE ? UA_STATUSCODE_BADIDENTITYTOKENREJECTED : UA_STATUSCODE_GOOD;
    }
    if (token->encoding != UA_EXTENSIONOBJECT_DECODED || type != &UA_TYPES[UA_TYPES_USERNAMEIDENTITYTOKEN]) {
        return UA_STATUSCODE_BADIDENTITYTOKENINVALID;
    }
    const UA_UserNameIdentityToken *named = token->content.decoded.data;
    *name = named->userName;
    return name_check(server, named, role);
}

static UA_StatusCode session_activate(UA_Server *library, UA_AccessControl *access, const UA_EndpointDescription *endpoint,
                                      const UA_ByteString *certificate, const UA_NodeId *session_id, const UA_ExtensionObject *token,
                                      void **context) {
    (void)access, (void)endpoint, (void)certificate;
    bf_ua_server *server = server_of(library);
    UA_Session *session = getSessionById(library, session_id);
    if (session == NULL) {
        return UA_STATUSCODE_BADSESSIONIDINVALID;
    }
    bf_ua_event event = {.kind = BF_UA_EVENT_SESSION_OPENED};
    UA_String name;
    uint32_t role = BF_UA_ROLE_NONE;
    UA_StatusCode status = token_check(server, token, &role, &name);
    text_copy(event.user, sizeof event.user, name);
    client_describe(session, event.client, sizeof event.client);
    ua_login *login = *context;
    if (status == UA_STATUSCODE_GOOD && login == NULL) {
        login = calloc(1, sizeof *login);
        status = login == NULL ? UA_STATUSCODE_BADOUTOFMEMORY : status;
    }
    if (status != UA_STATUSCODE_GOOD) {
        event.kind = BF_UA_EVENT_LOGIN_FAILED;
        event.status = status;
        server->counts.logins_failed++;
        server->login_told = true;
        (void)event_put(server, &event, NULL);
        return status;
    }
    history_bound(session);
    if (*context == NULL) { /* the session is new and holds none yet */
        session->availableContinuationPoints = (UA_UInt16)server->config.limits.browse_continuations_max;
    }
    bool is_new = *context == NULL || strncmp(login->user, event.user, sizeof login->user) != 0;
    login->number = login->number == 0 ? ++server->sessions_number : login->number;
    login->role = role;
    memcpy(login->user, event.user, sizeof login->user);
    memcpy(login->client, event.client, sizeof login->client);
    *context = login;
    if (is_new) { /* a client that comes back on a new channel activates again */
        event.token = login->number;
        server->counts.sessions_opened++;
        (void)event_put(server, &event, NULL);
    }
    return UA_STATUSCODE_GOOD;
}

static void session_close(UA_Server *library, UA_AccessControl *access, const UA_NodeId *session_id, void *context) {
    (void)access;
    bf_ua_server *server = server_of(library);
    writes_abandon(server, session_id, UA_STATUSCODE_BADSESSIONCLOSED);
    ua_login *login = context;
    if (login == NULL) {
        return;
    }
    bf_ua_event event = {.kind = BF_UA_EVENT_SESSION_CLOSED, .token = login->number};
    memcpy(event.user, login->user, sizeof login->user);
    memcpy(event.client, login->client, sizeof login->client);
    (void)event_put(server, &event, NULL);
    free(login);
}

/* ---- rights --------------------------------------------------------------------------------------------------------------------- */

static UA_UInt32 rights_mask(UA_Server *library, UA_AccessControl *access, const UA_NodeId *session, void *context, const UA_NodeId *id,
                             void *node) {
    (void)library, (void)access, (void)session, (void)context, (void)id, (void)node;
    return 0;
}

/* Names and certificates of other clients; OPC 10000-5, 6.3.4 and 6.3.5: not for everybody. */
static bool is_about_others(const UA_NodeId *id) {
    return id->namespaceIndex == 0 && id->identifierType == UA_NODEIDTYPE_NUMERIC &&
           (id->identifier.numeric == UA_NS0ID_SERVER_SERVERDIAGNOSTICS_SESSIONSDIAGNOSTICSSUMMARY_SESSIONDIAGNOSTICSARRAY ||
            id->identifier.numeric == UA_NS0ID_SERVER_SERVERDIAGNOSTICS_SESSIONSDIAGNOSTICSSUMMARY_SESSIONSECURITYDIAGNOSTICSARRAY);
}

static UA_Byte access_level(UA_Server *library, UA_AccessControl *access, const UA_NodeId *session, void *context, const UA_NodeId *id,
                            void *node) {
    (void)library, (void)access, (void)session, (void)node;
    const ua_login *login = context;
    bool is_writer = login != NULL && login->role == BF_UA_ROLE_WRITE;
    if (is_about_others(id)) {
        return is_writer ? UA_ACCESSLEVELMASK_READ : 0;
    }
    return is_writer && id->namespaceIndex == TAGS_NAMESPACE ? 0xFF : UA_ACCESSLEVELMASK_READ;
}

static UA_Boolean may_execute(UA_Server *library, UA_AccessControl *access, const UA_NodeId *session, void *context, const UA_NodeId *id,
                              void *node) {
    (void)library, (void)access, (void)session, (void)context, (void)id, (void)node;
    return true; /* the standard's own methods, which tell a session about itself */
}

static UA_Boolean may_execute_on(UA_Server *library, UA_AccessControl *access, const UA_NodeId *session, void *context,
                                 const UA_NodeId *method, void *method_node, const UA_NodeId *object, void *object_node) {
    (void)library, (void)access, (void)session, (void)context, (void)method, (void)method_node, (void)object, (void)object_node;
    return true;
}

static UA_Boolean may_browse(UA_Server *library, UA_AccessControl *access, const UA_NodeId *session, void *context, const UA_NodeId *id,
                             void *node) {
    (void)library, (void)access, (void)session, (void)context, (void)id, (void)node;
    return true;
}

static UA_Boolean never_add(UA_Server *library, UA_AccessControl *access, const UA_NodeId *session, void *context,
                            const UA_AddNodesItem *item) {
    (void)library, (void)access, (void)session, (void)context, (void)item;
    return false;
}

static UA_Boolean never_refer(UA_Server *library, UA_AccessControl *access, const UA_NodeId *session, void *context,
                              const UA_AddReferencesItem *item) {
    (void)library, (void)access, (void)session, (void)context, (void)item;
    return false;
}

static UA_Boolean never_delete(UA_Server *library, UA_AccessControl *access, const UA_NodeId *session, void *context,
                               const UA_DeleteNodesItem *item) {
    (void)library, (void)access, (void)session, (void)context, (void)item;
    return false;
}

static UA_Boolean never_unrefer(UA_Server *library, UA_AccessControl *access, const UA_NodeId *session, void *context,
                                const UA_DeleteReferencesItem *item) {
    (void)library, (void)access, (void)session, (void)context, (void)item;
    return false;
}

/* A subscription goes to another session of the same user, or to anybody once its session is gone: it shows nothing that may not be read. */
static UA_Boolean may_transfer(UA_Server *library, UA_AccessControl *access, const UA_NodeId *old_session, void *old_context,
                               const UA_NodeId *new_session, void *new_context) {
    (void)library, (void)access, (void)old_session, (void)new_session;
    const ua_login *from = old_context;
    const ua_login *to = new_context;
    return to != NULL && (from == NULL || strncmp(from->user, to->user, sizeof from->user) == 0);
}

static void access_install(bf_ua_server *server, UA_ServerConfig *config) {
    config->accessControl = (UA_AccessControl){
        .context = server,
        .activateSession = session_activate,
        .closeSession = session_close,
        .getUserRightsMask = rights_mask,
        .getUserAccessLevel = access_level,
        .getUserExecutable = may_execute,
        .getUserExecutableOnObject = may_execute_on,
        .allowAddNode = never_add,
        .allowAddReference = never_refer,
        .allowDeleteNode = never_delete,
        .allowDeleteReference = never_unrefer,
        .allowBrowseNode = may_browse,
        .allowTransferSubscription = may_transfer,
    };
    logins_offer(server, &config->accessControl);
}
