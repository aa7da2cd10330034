/* SPDX-License-Identifier: Apache-2.0
 *
 * A PKCS#11 module for tests that stands before another one (TROUBLE_MODULE) and fails as the file TROUBLE_FILE says,
 * which is read with every call:
 * - "C_Sign 0x32": C_Sign answers 0x32; so for every function below;
 * - "gone": no slot has a token, and sessions answer CKR_DEVICE_REMOVED;
 * - "stuck": as "gone", from then on until C_Finalize, as with modules that see no token come back;
 * - "stuck_once": the same for the first time that it is read;
 * - "public_stays 0x1b": C_DestroyObject answers that to a public key, "destroy_once 0x1b": to whatever comes first;
 * - "find_public 0x31": C_FindObjectsInit answers that when public keys are looked for;
 * - "own_iv": C_EncryptInit takes no IV of the caller's and writes one of the token's there, "hidden_iv": nowhere;
 * - "pin_pad": the token has one, so C_Login comes without a PIN;
 * - "hold_login": C_Login does not end before the file says otherwise;
 * - "pulled": the next C_DecryptInit answers CKR_DEVICE_REMOVED, and the next C_OpenSession gives the handle that the
 * process was given first, as a module does that has closed all of a token's sessions;
 * - "final_try": the token says that one more wrong PIN locks it.
 * Calls of C_Initialize, C_Finalize, C_OpenSession and C_Login are noted in TROUBLE_LOG, one a line.
 */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

static CK_FUNCTION_LIST* real;
static CK_FUNCTION_LIST ours;
static int stuck;
static int was_stuck;
static int pulled; /* 1: C_DecryptInit said so, 2: and C_OpenSession gave the handle */

static void note(const char* call) {
  const char* path = getenv("TROUBLE_LOG");
  FILE* log = path != NULL ? fopen(path, "a") : NULL;
  if (log == NULL) return;
  fprintf(log, "%s\n", call);
  fclose(log);
}

/* The number after `word` in the file, 1 when it stands alone, 0 when it is not there. */
static unsigned long said(const char* word) {
  const char* path = getenv("TROUBLE_FILE");
  FILE* file = path != NULL ? fopen(path, "r") : NULL;
  char line[128];
  unsigned long found = 0;
  if (file == NULL) return 0;
  while (fgets(line, sizeof line, file) != NULL) {
    const size_t size = strlen(word);
    if (strncmp(line, word, size) != 0) continue;
    if (line[size] == ' ') found = strtoul(line + size, NULL, 0);
    if (line[size] == '\n' || line[size] == '\0') found = 1;
  }
  fclose(file);
  return found;
}

static int gone(void) {
  if (said("stuck")) stuck = 1;
  if (!was_stuck && said("stuck_once")) stuck = was_stuck = 1;
  return stuck || said("gone");
}

static CK_RV trouble(const char* call) {
  if (gone()) return CKR_DEVICE_REMOVED;
  return said(call);
}

static CK_RV initialize(void* args) {
  note("C_Initialize");
  return real->C_Initialize(args);
}
static CK_RV finalize(void* reserved) {
  note("C_Finalize");
  stuck = 0;
  return real->C_Finalize(reserved);
}
static CK_RV get_slot_list(unsigned char present, CK_SLOT_ID* slots, unsigned long* count) {
  if (said("C_GetSlotList")) return said("C_GetSlotList");
  if (!gone()) return real->C_GetSlotList(present, slots, count);
  *count = 0;
  return CKR_OK;
}
static CK_RV get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO* info) {
  const CK_RV rv = real->C_GetTokenInfo(slot, info);
  if (rv == CKR_OK && said("pin_pad")) info->flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
  if (rv == CKR_OK && said("final_try")) info->flags |= CKF_USER_PIN_FINAL_TRY;
  return rv;
}
static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void* app, CK_NOTIFY notify, CK_SESSION_HANDLE* session) {
  static CK_SESSION_HANDLE first;
  CK_RV rv = trouble("C_OpenSession");
  note("C_OpenSession");
  if (rv == CKR_OK && pulled == 1) {
    pulled = 2;
    *session = first;
    return CKR_OK;
  }
  if (rv == CKR_OK) rv = real->C_OpenSession(slot, flags, app, notify, session);
  if (rv == CKR_OK && first == 0) first = *session;
  return rv;
}
static CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE user, unsigned char* pin, unsigned long size) {
  const CK_RV rv = trouble("C_Login");
  note("C_Login");
  while (said("hold_login")) thrd_sleep(&(struct timespec){.tv_nsec = 1000 * 1000}, NULL);
  return rv != CKR_OK ? rv : real->C_Login(session, user, pin, size);
}
static CK_RV find_objects_init(CK_SESSION_HANDLE session, CK_ATTRIBUTE* wanted, unsigned long count) {
  CK_RV rv = trouble("C_FindObjectsInit");
  for (unsigned long i = 0; rv == CKR_OK && i < count; ++i) {
    if (wanted[i].type == CKA_CLASS && *(CK_OBJECT_CLASS*)wanted[i].pValue == CKO_PUBLIC_KEY) rv = said("find_public");
  }
  return rv != CKR_OK ? rv : real->C_FindObjectsInit(session, wanted, count);
}
static CK_RV destroy_object(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object) {
  static int refused;
  CK_RV rv = trouble("C_DestroyObject");
  CK_OBJECT_CLASS class = 0;
  CK_ATTRIBUTE wanted = {CKA_CLASS, &class, sizeof class};
  if (!said("destroy_once")) refused = 0;
  if (rv == CKR_OK && said("destroy_once") && !refused++) rv = said("destroy_once");
  if (rv == CKR_OK && said("public_stays") && real->C_GetAttributeValue(session, object, &wanted, 1) == CKR_OK &&
      class == CKO_PUBLIC_KEY)
    rv = said("public_stays");
  return rv != CKR_OK ? rv : real->C_DestroyObject(session, object);
}
static CK_RV generate_key_pair(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_ATTRIBUTE* open,
                               unsigned long opens, CK_ATTRIBUTE* closed, unsigned long closeds,
                               CK_OBJECT_HANDLE* public_key, CK_OBJECT_HANDLE* private_key) {
  const CK_RV rv = trouble("C_GenerateKeyPair");
  if (rv != CKR_OK) return rv;
  return real->C_GenerateKeyPair(session, mechanism, open, opens, closed, closeds, public_key, private_key);
}
static CK_RV sign_init(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  const CK_RV rv = trouble("C_SignInit");
  return rv != CKR_OK ? rv : real->C_SignInit(session, mechanism, key);
}
static CK_RV sign(CK_SESSION_HANDLE session, unsigned char* data, unsigned long size, unsigned char* out,
                  unsigned long* out_size) {
  const CK_RV ended = real->C_Sign(session, data, size, out, out_size);
  const CK_RV rv = trouble("C_Sign");
  return rv != CKR_OK ? rv : ended;
}
static CK_RV decrypt(CK_SESSION_HANDLE session, unsigned char* data, unsigned long size, unsigned char* out,
                     unsigned long* out_size) {
  const CK_RV ended = real->C_Decrypt(session, data, size, out, out_size);
  const CK_RV rv = trouble("C_Decrypt");
  return rv != CKR_OK ? rv : ended;
}
static CK_RV decrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  if (pulled != 0 || !said("pulled")) return real->C_DecryptInit(session, mechanism, key);
  pulled = 1;
  return CKR_DEVICE_REMOVED;
}
static CK_RV encrypt_init(CK_SESSION_HANDLE session, CK_MECHANISM* mechanism, CK_OBJECT_HANDLE key) {
  static unsigned char iv[16];
  CK_MECHANISM hidden = *mechanism;
  CK_GCM_PARAMS params;
  if (mechanism->mechanism != CKM_AES_GCM || (!said("own_iv") && !said("hidden_iv")))
    return real->C_EncryptInit(session, mechanism, key);
  ++iv[0]; /* never twice the same */
  params = *(CK_GCM_PARAMS*)mechanism->pParameter;
  if (said("own_iv")) memcpy(params.iv_ptr, iv, params.iv_len);
  params.iv_ptr = iv;
  hidden.pParameter = &params;
  return real->C_EncryptInit(session, &hidden, key);
}
static CK_RV encrypt(CK_SESSION_HANDLE session, unsigned char* data, unsigned long size, unsigned char* out,
                     unsigned long* out_size) {
  const CK_RV ended = real->C_Encrypt(session, data, size, out, out_size);
  const CK_RV rv = trouble("C_Encrypt");
  return rv != CKR_OK ? rv : ended;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST** list) {
  const char* path = getenv("TROUBLE_MODULE");
  void* handle = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
  CK_C_GetFunctionList entry = NULL;
  if (handle == NULL) return CKR_FUNCTION_FAILED;
  *(void**)&entry = dlsym(handle, "C_GetFunctionList");
  if (entry == NULL || entry(&real) != CKR_OK) return CKR_FUNCTION_FAILED;
  ours = *real;
  ours.C_Initialize = initialize;
  ours.C_Finalize = finalize;
  ours.C_GetSlotList = get_slot_list;
  ours.C_GetTokenInfo = get_token_info;
  ours.C_OpenSession = open_session;
  ours.C_Login = login;
  ours.C_FindObjectsInit = find_objects_init;
  ours.C_DestroyObject = destroy_object;
  ours.C_GenerateKeyPair = generate_key_pair;
  ours.C_SignInit = sign_init;
  ours.C_Sign = sign;
  ours.C_DecryptInit = decrypt_init;
  ours.C_Decrypt = decrypt;
  ours.C_EncryptInit = encrypt_init;
  ours.C_Encrypt = encrypt;
  *list = &ours;
  return CKR_OK;
}
