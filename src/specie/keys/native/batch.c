/* The mint's curve work in batches: one call, the interpreter lock released, no Python object a point.

   No cryptography of our own: points and scalars are libsecp256k1's, hashes are OpenSSL's. Neither is linked or included; the
   loader hands over the addresses of their public functions, so that this file needs a C compiler and nothing else. Secret
   scalars multiply in constant time: secp256k1_ecdh with a callback that keeps the point is the library's way of doing that.

   Arrays are flat: scalars of 32 bytes, points of 33 (compressed) or 65 (uncompressed), one after another. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct { unsigned char data[64]; } point; /* secp256k1_pubkey, opaque */
typedef int (*keep)(unsigned char *, const unsigned char *, const unsigned char *, void *);

static struct {
  void *(*context_create)(unsigned int);
  int (*context_randomize)(void *, const unsigned char *);
  int (*parse)(const void *, point *, const unsigned char *, size_t);
  int (*serialize)(const void *, unsigned char *, size_t *, const point *, unsigned int);
  int (*create)(const void *, point *, const unsigned char *);
  int (*ecdh)(const void *, unsigned char *, const point *, const unsigned char *, keep, void *);
  int (*scalar_verify)(const void *, const unsigned char *);
  int (*scalar_multiply)(const void *, unsigned char *, const unsigned char *);
  int (*scalar_add)(const void *, unsigned char *, const unsigned char *);
  unsigned char *(*sha256)(const unsigned char *, size_t, unsigned char *);
  unsigned char *(*hmac)(const void *, const void *, int, const unsigned char *, size_t, unsigned char *, unsigned int *);
  const void *(*hmac_sha256)(void);
  int (*compare)(const void *, const void *, size_t); /* in constant time */
  void (*cleanse)(void *, size_t);
} lib;

static void *context;

/* Which source this was built from: the loader takes no other than its own. */
EXPORT const char *specie_batch_source(void) { return SPECIE_SOURCE; }

/* Takes the functions in the order above, and 32 random bytes that blind the library's tables. 0, or 1 where that failed. */
EXPORT int specie_batch_open(void *const *functions, size_t count, const unsigned char *seed) {
  if (count * sizeof(void *) != sizeof lib) return 1;
  memcpy(&lib, functions, sizeof lib);
  if (!context) context = lib.context_create(1);
  return !context || !lib.context_randomize(context, seed);
}

/* Keeps a product as it is: 04 || x || y. */
static int keep_point(unsigned char *out, const unsigned char *x, const unsigned char *y, void *data) {
  (void)data;
  out[0] = 4;
  memcpy(out + 1, x, 32);
  memcpy(out + 33, y, 32);
  return 1;
}

static void compress(unsigned char *out, const unsigned char *whole) {
  out[0] = (unsigned char)(2 | (whole[64] & 1));
  memcpy(out + 1, whole + 1, 32);
}

/* NUT-00. 1, or 0 where 2^16 counters give no point. */
static int hash_to_curve(point *found, unsigned char *candidate, const unsigned char *message, size_t length) {
  unsigned char digest[36];
  unsigned char start[28 + 1024];
  if (length > 1024) return 0; /* the caller hashes longer ones */
  memcpy(start, "Secp256k1_HashToCurve_Cashu_", 28);
  memcpy(start + 28, message, length);
  lib.sha256(start, 28 + length, digest);
  candidate[0] = 2;
  for (uint32_t counter = 0; counter < 65536; counter++) {
    for (int at = 0; at < 4; at++) digest[32 + at] = (unsigned char)(counter >> (8 * at));
    lib.sha256(digest, 36, candidate + 1);
    if (lib.parse(context, found, candidate, 33)) return 1;
  }
  return 0;
}

/* For coins whose secrets lie one behind another in `data`: Y of each (33 bytes), and whether C == k*Y. `found[i]` is 0 where Y has
   to be computed elsewhere; what is no scalar is not valid. */
static void verify(size_t count, const unsigned char *data, const uint32_t *lengths, const unsigned char *ks, const unsigned char *cs,
                   unsigned char *ys, unsigned char *found, unsigned char *valid) {
  point y;
  unsigned char whole[65], product[33];
  for (size_t at = 0; at < count; data += lengths[at], at++) {
    valid[at] = 0;
    found[at] = (unsigned char)hash_to_curve(&y, ys + 33 * at, data, lengths[at]);
    if (!found[at] || !lib.ecdh(context, whole, &y, ks + 32 * at, keep_point, NULL)) continue;
    compress(product, whole);
    valid[at] = lib.compare(product, cs + 33 * at, 33) == 0;
  }
}

static void add_hex(unsigned char *out, const unsigned char *whole) {
  for (int at = 0; at < 65; at++) {
    out[2 * at] = (unsigned char)"0123456789abcdef"[whole[at] >> 4];
    out[2 * at + 1] = (unsigned char)"0123456789abcdef"[whole[at] & 15];
  }
}

/* NUT-12's deterministic nonce. */
static int nonce(unsigned char *r, const unsigned char *k, const unsigned char *key, const unsigned char *b, const unsigned char *c) {
  unsigned char message[15 + 3 * 65 + 1];
  memcpy(message, "Cashu_DLEQ_R_v1", 15);
  memcpy(message + 15, key, 65);
  memcpy(message + 80, b, 65);
  memcpy(message + 145, c, 65);
  for (int counter = 0; counter < 256; counter++) {
    message[210] = (unsigned char)counter;
    if (!lib.hmac(lib.hmac_sha256(), k, 32, message, sizeof message, r, NULL)) return 0;
    if (lib.scalar_verify(context, r)) return 1;
  }
  return 0;
}

/* C_ = k*B_ and its DLEQ proof for each: `signed_` takes C_ (33), e (32), s (32). ok[i] is 0, and nothing of it may be used,
   where B_ is no point or the proof has to be made the long way. */
static void sign(size_t count, const unsigned char *ks, const unsigned char *keys, const unsigned char *bs, unsigned char *signed_, unsigned char *ok) {
  point b, r1;
  unsigned char r[32], product[32], hex[4 * 130], whole[4][65]; /* R1, R2, B_, C_ */
  for (size_t at = 0; at < count; at++) {
    const unsigned char *k = ks + 32 * at, *key = keys + 65 * at;
    unsigned char *out = signed_ + 97 * at, *e = out + 33, *s = out + 65;
    size_t length = 65;
    ok[at] = 0;
    if (!lib.parse(context, &b, bs + 33 * at, 33)) continue;
    if (!lib.serialize(context, whole[2], &length, &b, 2)) continue;
    if (!lib.ecdh(context, whole[3], &b, k, keep_point, NULL)) continue;
    if (!nonce(r, k, key, whole[2], whole[3])) continue;
    if (!lib.create(context, &r1, r)) continue;
    length = 65;
    if (!lib.serialize(context, whole[0], &length, &r1, 2)) continue;
    if (!lib.ecdh(context, whole[1], &b, r, keep_point, NULL)) continue;
    add_hex(hex, whole[0]);
    add_hex(hex + 130, whole[1]);
    add_hex(hex + 260, key);
    add_hex(hex + 390, whole[3]);
    lib.sha256(hex, sizeof hex, e);
    memcpy(product, k, 32);
    if (!lib.scalar_multiply(context, product, e)) continue; /* e at least n: once in 2^128 */
    if (!lib.scalar_add(context, product, r)) continue;
    memcpy(s, product, 32);
    compress(out, whole[3]);
    ok[at] = 1;
  }
  lib.cleanse(r, sizeof r);
  lib.cleanse(product, sizeof product);
}

/* Jobs one behind another: `sizes` says how many coins and how many outputs each has. The outputs of a job are signed only if all
   of its coins were found here and hold; else their ok[i] is 0. The arrays are those of `verify` and `sign`, over all jobs. */
EXPORT void specie_exchange(size_t jobs, const uint32_t *sizes, const unsigned char *data, const uint32_t *lengths, const unsigned char *ks,
                            const unsigned char *cs, unsigned char *ys, unsigned char *found, unsigned char *valid, const unsigned char *signing,
                            const unsigned char *keys, const unsigned char *bs, unsigned char *signed_, unsigned char *ok) {
  for (size_t job = 0; job < jobs; job++) {
    size_t coins = sizes[2 * job], outputs = sizes[2 * job + 1];
    int holds = 1;
    verify(coins, data, lengths, ks, cs, ys, found, valid);
    for (size_t at = 0; at < coins; at++) {
      holds &= found[at] & valid[at];
      data += lengths[at];
    }
    if (holds) sign(outputs, signing, keys, bs, signed_, ok);
    else memset(ok, 0, outputs);
    lengths += coins, ks += 32 * coins, cs += 33 * coins, ys += 33 * coins, found += coins, valid += coins;
    signing += 32 * outputs, keys += 65 * outputs, bs += 33 * outputs, signed_ += 97 * outputs, ok += outputs;
  }
}
