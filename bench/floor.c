/* What libsecp256k1 allows a mint, with storage, HTTP, JSON and Python for nothing.

   One pair is the curve work of one coin in and one coin out, secret scalars in constant time:
     in    Y = hash_to_curve(secret), k*Y, compare with C
     out   parse B_, C_ = k*B_, and the DLEQ proof: nonce by HMAC, r*G, r*B_, challenge over four points, s = r + e*k
   secp256k1_ecdh with a callback that keeps the point is the library's constant-time multiplication.
   With `points` the DLEQ proof is its two multiplications and nothing else: no nonce is derived, no challenge is hashed and
   no answer computed. That is less than a mint can do, and the floor that a mint in another language is held against.

   usage: floor THREADS SECONDS [points]   prints pairs per second over all threads, and processor microseconds per pair
   build: cc -O2 floor.c -o floor -lsecp256k1 -lcrypto -lpthread */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <secp256k1.h>
#include <secp256k1_ecdh.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_THREADS 256
#define CHECK(x) do { if (!(x)) { fprintf(stderr, "floor: failed: %s\n", #x); exit(1); } } while (0)

static atomic_int stop;
static int points_only;

struct job { pthread_t thread; unsigned seed; uint64_t pairs; };

static double seconds_of(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Keeps the product as it is: 04 || x || y. */
static int keep_point(unsigned char *out, const unsigned char *x, const unsigned char *y, void *data) {
  (void)data;
  out[0] = 4;
  memcpy(out + 1, x, 32);
  memcpy(out + 33, y, 32);
  return 1;
}

static void hash_to_curve(const secp256k1_context *ctx, secp256k1_pubkey *point, const unsigned char *text, size_t length) {
  unsigned char message[28 + 64], digest[36], candidate[33] = {2};
  memcpy(message, "Secp256k1_HashToCurve_Cashu_", 28);
  memcpy(message + 28, text, length);
  SHA256(message, 28 + length, digest);
  for (uint32_t counter = 0;; counter++) {
    for (int i = 0; i < 4; i++) digest[32 + i] = (unsigned char)(counter >> (8 * i));
    SHA256(digest, 36, candidate + 1);
    if (secp256k1_ec_pubkey_parse(ctx, point, candidate, 33)) return;
  }
}

static void add_hex(unsigned char *out, const unsigned char *point) {
  for (int i = 0; i < 65; i++) {
    out[2 * i] = (unsigned char)"0123456789abcdef"[point[i] >> 4];
    out[2 * i + 1] = (unsigned char)"0123456789abcdef"[point[i] & 15];
  }
}

static void *work(void *argument) {
  struct job *job = argument;
  secp256k1_context *ctx = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
  secp256k1_pubkey point;
  unsigned char k[32], b_[33], key[65], wanted[65], product[65], c_[65], r1[65], r2[65], nonce[32], e[32], s[32];
  unsigned char text[64], hmac_in[15 + 3 * 65 + 1], hashed[520];
  size_t length;
  unsigned hmac_length;
  for (int i = 0; i < 32; i++) k[i] = (unsigned char)rand_r(&job->seed);
  k[0] = 1;
  CHECK(secp256k1_ec_pubkey_create(ctx, &point, k));
  length = 65;
  secp256k1_ec_pubkey_serialize(ctx, key, &length, &point, SECP256K1_EC_UNCOMPRESSED);
  length = 33;
  secp256k1_ec_pubkey_serialize(ctx, b_, &length, &point, SECP256K1_EC_COMPRESSED);
  memset(wanted, 0, sizeof wanted);
  memcpy(hmac_in, "Cashu_DLEQ_R_v1", 15);
  while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
    for (int i = 0; i < 64; i++) text[i] = (unsigned char)"0123456789abcdef"[rand_r(&job->seed) & 15];
    hash_to_curve(ctx, &point, text, 64);
    CHECK(secp256k1_ecdh(ctx, product, &point, k, keep_point, NULL));
    CHECK(memcmp(product, wanted, 65) != 0);

    CHECK(secp256k1_ec_pubkey_parse(ctx, &point, b_, 33));
    CHECK(secp256k1_ecdh(ctx, c_, &point, k, keep_point, NULL));
    if (points_only) {
      CHECK(secp256k1_ecdh(ctx, r2, &point, k, keep_point, NULL));
      CHECK(secp256k1_ec_pubkey_create(ctx, &point, k));
      memcpy(b_, c_, 33);
      b_[0] = (unsigned char)(2 | (c_[64] & 1));
      job->pairs++;
      continue;
    }
    memcpy(hmac_in + 15, key, 65);
    length = 65;
    secp256k1_ec_pubkey_serialize(ctx, hmac_in + 80, &length, &point, SECP256K1_EC_UNCOMPRESSED);
    memcpy(hmac_in + 145, c_, 65);
    hmac_in[210] = 0;
    hmac_length = 32;
    CHECK(HMAC(EVP_sha256(), k, 32, hmac_in, sizeof hmac_in, nonce, &hmac_length) != NULL);
    CHECK(secp256k1_ecdh(ctx, r2, &point, nonce, keep_point, NULL));
    CHECK(secp256k1_ec_pubkey_create(ctx, &point, nonce));
    length = 65;
    secp256k1_ec_pubkey_serialize(ctx, r1, &length, &point, SECP256K1_EC_UNCOMPRESSED);
    add_hex(hashed, r1);
    add_hex(hashed + 130, r2);
    add_hex(hashed + 260, key);
    add_hex(hashed + 390, c_);
    SHA256(hashed, sizeof hashed, e);
    memcpy(s, k, 32);
    CHECK(secp256k1_ec_seckey_tweak_mul(ctx, s, e));
    CHECK(secp256k1_ec_seckey_tweak_add(ctx, s, nonce));
    memcpy(b_, c_, 33);
    b_[0] = (unsigned char)(2 | (c_[64] & 1)); /* the next output: no two alike */
    job->pairs++;
  }
  secp256k1_context_destroy(ctx);
  return NULL;
}

int main(int argc, char **argv) {
  static struct job jobs[MAX_THREADS];
  int given = argc == 3 || (argc == 4 && !strcmp(argv[3], "points"));
  long threads = given ? strtol(argv[1], NULL, 10) : 0;
  double seconds = given ? strtod(argv[2], NULL) : 0.0, started, wall;
  uint64_t pairs = 0;
  if (threads < 1 || threads > MAX_THREADS || seconds <= 0 || seconds > 60) {
    fprintf(stderr, "usage: floor THREADS SECONDS [points]\n");
    return 2;
  }
  points_only = argc == 4;
  started = seconds_of(CLOCK_MONOTONIC);
  for (long i = 0; i < threads; i++) {
    jobs[i].seed = (unsigned)(7 + i);
    CHECK(pthread_create(&jobs[i].thread, NULL, work, &jobs[i]) == 0);
  }
  struct timespec rest = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&rest, NULL);
  atomic_store(&stop, 1);
  for (long i = 0; i < threads; i++) {
    pthread_join(jobs[i].thread, NULL);
    pairs += jobs[i].pairs;
  }
  wall = seconds_of(CLOCK_MONOTONIC) - started;
  printf("%.1f %.2f\n", (double)pairs / wall, seconds_of(CLOCK_PROCESS_CPUTIME_ID) / (double)pairs * 1e6);
  return 0;
}
