// Drives the cashu-ts wallet from the interop tests: one JSON request a line on stdin, one JSON answer a line on stdout.
//
//   node driver.mjs DIR          DIR holds the node_modules that scripts/install-peers.sh made
//
// A request is {"id": n, "call": name, "wallet": handle, "args": {...}}; an answer is {"id": n, "ok": value} or
// {"id": n, "error": {"message", "code"}}. The library keeps no state, so this file keeps what an application would: the
// proofs, the quotes and the counters of each wallet, in memory. Every signature must carry a DLEQ that verifies.
// It is not a wallet for anybody's money.

import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createHash, webcrypto } from 'node:crypto';

globalThis.crypto ??= webcrypto; // Node 18

const modules = join(process.argv[2], 'node_modules');
const cashu = await import(pathToFileURL(join(modules, '@cashu/cashu-ts/lib/cashu-ts.es.js')).href);
const { default: WebSocket } = await import(pathToFileURL(join(modules, 'ws/wrapper.mjs')).href);
cashu.injectWebSocketImpl(WebSocket);
const bcUr = createRequire(join(modules, 'x.js'))('@ngraveio/bc-ur');

const fromHex = (text) => Uint8Array.from(Buffer.from(text, 'hex'));
const toHex = (bytes) => Buffer.from(bytes).toString('hex');
const total = (proofs) => proofs.reduce((sum, proof) => sum + proof.amount.toNumber(), 0);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const wallets = new Map();

class Peer {
  constructor(mintUrl, unit, seed) {
    this.seed = fromHex(seed);
    this.privkey = createHash('sha256').update(this.seed).digest('hex');
    this.pubkey = toHex(cashu.getPubKeyFromPrivKey(fromHex(this.privkey)));
    this.proofs = [];
    this.quotes = new Map();
    this.wallet = new cashu.Wallet(mintUrl, { unit, bip39seed: this.seed, requireSigDleq: true });
  }

  keys(more) {
    return [this.privkey, ...(more ?? [])];
  }

  judge(proofs) {
    for (const proof of proofs) {
      const keyset = this.wallet.getKeyset(proof.id);
      if (!cashu.hasValidDleq(proof, keyset)) throw new Error(`a proof of ${proof.amount} has no valid DLEQ`);
    }
  }

  keep(proofs) {
    this.judge(proofs);
    this.proofs = [...this.proofs, ...proofs];
    return { amount: total(proofs), amounts: proofs.map((p) => p.amount.toNumber()), balance: total(this.proofs) };
  }

  info() {
    const keyset = this.wallet.getKeyset();
    return { pubkey: this.pubkey, keyset: keyset.id, fee_ppk: keyset.fee, name: this.wallet.getMintInfo().name, balance: total(this.proofs) };
  }

  async mint_quote({ amount, locked }) {
    const quote = locked
      ? await this.wallet.createLockedMintQuote(amount, this.pubkey)
      : await this.wallet.createMintQuoteBolt11(amount);
    this.quotes.set(quote.quote, { amount, quote });
    return { quote: quote.quote, request: quote.request, state: quote.state };
  }

  async wait_paid({ quote, timeout_ms }) {
    for (const end = Date.now() + timeout_ms; Date.now() < end; await sleep(50)) {
      const seen = await this.wallet.checkMintQuoteBolt11(quote);
      if (seen.state !== 'UNPAID') return { state: seen.state };
    }
    throw new Error(`quote ${quote} was not paid in ${timeout_ms} ms`);
  }

  async wait_paid_by_socket({ quote, timeout_ms }) {
    const seen = await this.wallet.on.onceMintPaid(quote, { timeoutMs: timeout_ms });
    this.wallet.mint.disconnectWebSocket();
    return { state: seen.state };
  }

  async mint({ quote }) {
    const known = this.quotes.get(quote);
    const config = known.quote.pubkey ? { privkey: this.privkey } : undefined;
    return this.keep(await this.wallet.mintProofsBolt11(known.amount, known.quote, config));
  }

  async swap() {
    const inputs = this.proofs;
    const fresh = await this.wallet.receive(inputs, { requireDleq: true });
    this.proofs = [];
    return { paid: total(inputs) - total(fresh), ...this.keep(fresh) };
  }

  async send({ amount, lock, include_fees, legacy, memo }) {
    const output = lock && { send: { type: 'p2pk', options: lockOptions(lock) }, keep: { type: 'deterministic', counter: 0 } };
    const { keep, send } = await this.wallet.send(amount, this.proofs, { includeFees: include_fees }, output);
    this.judge(send);
    this.proofs = keep;
    const token = { mint: this.wallet.mint.mintUrl, unit: this.wallet.unit, memo, proofs: send };
    const text = legacy ? encodeV3(token) : cashu.getEncodedToken(token);
    return { token: text, amount: total(send), balance: total(keep) };
  }

  async receive({ token, preimage, privkeys }) {
    const decoded = this.wallet.decodeToken(token);
    if (preimage !== undefined && preimage !== null)
      decoded.proofs = decoded.proofs.map((proof) => ({ ...proof, witness: JSON.stringify({ preimage, signatures: [] }) }));
    const proofs = await this.wallet.receive(decoded, { requireDleq: true, privkey: this.keys(privkeys) });
    return { ...this.keep(proofs), memo: decoded.memo ?? null };
  }

  async melt({ request, amount_msat, token, privkeys, prefer_async, timeout_ms }) {
    const quote = await this.wallet.createMeltQuoteBolt11(request, amount_msat ?? undefined);
    let { keep, send } = { keep: this.proofs, send: token && this.wallet.decodeToken(token).proofs };
    if (!send)
      ({ keep, send } = await this.wallet.send(quote.amount.add(quote.fee_reserve), this.proofs, { includeFees: true }));
    const preview = await this.wallet.prepareMelt('bolt11', quote, send, { privkey: this.keys(privkeys) });
    const first = await this.wallet.completeMelt(preview, this.keys(privkeys), { preferAsync: Boolean(prefer_async) });
    let [paid, fresh] = [first.quote, first.change];
    if (paid.state === 'PENDING') {
      paid = await this.wallet.on.onceMeltPaid(quote.quote, { timeoutMs: timeout_ms });
      this.wallet.mint.disconnectWebSocket();
      fresh = this.wallet.createMeltChangeProofs(preview.outputData, paid.change ?? []);
    }
    this.proofs = keep;
    const change = this.keep(fresh);
    return {
      state: paid.state,
      first_state: first.quote.state,
      preimage: paid.payment_preimage,
      amount: quote.amount.toNumber(),
      fee_reserve: quote.fee_reserve.toNumber(),
      change: change.amount,
      balance: change.balance,
    };
  }

  async restore() {
    this.proofs = [];
    let kept = this.keep([]);
    for (const keyset of this.wallet.keyChain.getKeysets()) {
      const { proofs, lastCounterWithSignature } = await this.wallet.batchRestore(undefined, undefined, undefined, keyset.id);
      const { unspent } = await this.wallet.groupProofsByState(proofs);
      if (lastCounterWithSignature !== undefined)
        await this.wallet.counters.advanceToAtLeast(keyset.id, lastCounterWithSignature + 1);
      kept = this.keep(unspent);
    }
    return { ...kept, amount: kept.balance };
  }

  async watch({ token }) {
    await watch(this, token);
    return {};
  }

  async watched({ timeout_ms }) {
    const spent = await Promise.race([this.allSpent, sleep(timeout_ms).then(() => 0)]);
    this.cancel();
    this.wallet.mint.disconnectWebSocket();
    return { spent };
  }

  async pay_request({ text }) {
    const asked = cashu.PaymentRequest.fromEncodedRequest(text);
    const options = asked.toP2PKOptions();
    const output = options && { send: { type: 'p2pk', options }, keep: { type: 'deterministic', counter: 0 } };
    const { keep, send } = await this.wallet.send(asked.amount, this.proofs, { includeFees: true }, output);
    this.proofs = keep;
    const proofs = send.map((proof) => ({ ...proof, amount: proof.amount.toNumber() }));
    const payload = { id: asked.id, unit: asked.unit, mint: this.wallet.mint.mintUrl, memo: 'from cashu-ts', proofs };
    return { payload: JSON.stringify(payload), balance: total(keep) };
  }

  async take_payload({ payload }) {
    const { mint, unit, proofs } = JSON.parse(payload);
    return this.receive({ token: cashu.getEncodedToken({ mint, unit, proofs }) });
  }

  // Quotes of every method (NUT-23, NUT-25, NUT-30), all of them locked to this wallet's key (NUT-20).
  async method_quote({ method, amount }) {
    const ask = {
      bolt11: () => this.wallet.createLockedMintQuote(amount, this.pubkey),
      bolt12: () => this.wallet.createMintQuoteBolt12(this.pubkey, amount ? { amount } : undefined),
      onchain: () => this.wallet.createMintQuoteOnchain(this.pubkey),
    };
    const quote = await ask[method]();
    this.quotes.set(quote.quote, { method, quote });
    return { quote: quote.quote, request: quote.request, pubkey: quote.pubkey };
  }

  async look(name) {
    const known = this.quotes.get(name);
    const ask = {
      bolt11: () => this.wallet.checkMintQuoteBolt11(name),
      bolt12: () => this.wallet.checkMintQuoteBolt12(name),
      onchain: () => this.wallet.checkMintQuoteOnchain(name),
    };
    known.quote = await ask[known.method]();
    return known;
  }

  async method_seen({ quote, at_least, timeout_ms }) {
    for (const end = Date.now() + timeout_ms; ; await sleep(50)) {
      const { quote: seen } = await this.look(quote);
      const [paid, issued] = [seen.amount_paid, seen.amount_issued].map(Number);
      if (paid >= (at_least ?? 0)) return { paid, issued };
      if (Date.now() > end) throw new Error(`quote ${quote} has ${paid} of ${at_least} after ${timeout_ms} ms`);
    }
  }

  // `signature`: "v1" or "legacy" alone, where the library would try the second after the first was refused.
  // `twice`: the same request again, as a wallet does that lost the answer (NUT-19).
  async mint_part({ quote, amount, signature, twice }) {
    const known = await this.look(quote);
    let preview = await this.wallet.prepareMint(known.method, amount, known.quote, { privkey: this.privkey });
    if (signature === 'legacy') preview.payload.signature = preview.legacySignature;
    if (signature) preview = { ...preview, legacySignature: undefined };
    const proofs = await this.wallet.completeMint(preview);
    if (twice) same(proofs, await this.wallet.completeMint(preview));
    return this.keep(proofs);
  }

  // Several quotes of one method at once (NUT-29); `entries` are [quote, amount].
  async mint_batch({ method, entries, signature, twice }) {
    const asked = entries.map(([quote, amount]) => ({ quote: this.quotes.get(quote).quote, amount }));
    let preview = await this.wallet.prepareBatchMint(method, asked, { privkey: this.privkey });
    if (signature === 'legacy') preview.payload.signatures = preview.legacySignatures;
    if (signature) preview = { ...preview, legacySignatures: undefined };
    const proofs = await this.wallet.completeBatchMint(preview);
    if (twice) same(proofs, await this.wallet.completeBatchMint(preview));
    return this.keep(proofs);
  }

  async check_batch({ method, quotes }) {
    const seen = await this.wallet.checkMintQuoteBatch(method, quotes);
    return seen.map((quote) => ({ quote: quote.quote, paid: Number(quote.amount_paid), issued: Number(quote.amount_issued) }));
  }

  // Pays an offer or an address; `fee_index` chooses among what the quote of an address offers.
  async method_melt({ method, request, amount_msat, amount, fee_index, timeout_ms }) {
    const quote =
      method === 'onchain'
        ? await this.wallet.createMeltQuoteOnchain(request, amount)
        : await this.wallet.createMeltQuoteBolt12(request, amount_msat ?? undefined);
    const options = (quote.fee_options ?? []).map((o) => [o.fee_index, o.fee_reserve.toNumber(), o.estimated_blocks]);
    const chosen = quote.fee_options?.find((option) => option.fee_index === fee_index);
    const reserve = (chosen ?? quote).fee_reserve;
    const { keep, send } = await this.wallet.send(quote.amount.add(reserve), this.proofs, { includeFees: true });
    const preview = await this.wallet.prepareMelt(method, quote, send);
    const extraPayload = method === 'onchain' ? { fee_index } : undefined;
    const first = await this.wallet.completeMelt(preview, undefined, { extraPayload });
    let [paid, fresh] = [first.quote, first.change];
    const check = method === 'onchain' ? 'checkMeltQuoteOnchain' : 'checkMeltQuoteBolt12';
    for (const end = Date.now() + timeout_ms; paid.state === 'PENDING' && Date.now() < end; await sleep(50))
      paid = await this.wallet[check](quote.quote);
    if (first.quote.state === 'PENDING') fresh = this.wallet.createMeltChangeProofs(preview.outputData, paid.change ?? []);
    this.proofs = keep;
    const change = this.keep(fresh);
    return {
      states: [first.quote.state, paid.state],
      amount: quote.amount.toNumber(),
      reserve: reserve.toNumber(),
      options,
      selected: paid.selected_fee_index ?? null,
      outpoint: paid.outpoint ?? null,
      change: change.amount,
      balance: change.balance,
    };
  }

  // A part of an invoice (NUT-15).
  async melt_part({ request, amount_msat }) {
    const quote = await this.wallet.createMultiPathMeltQuote(request, amount_msat);
    const { keep, send } = await this.wallet.send(quote.amount.add(quote.fee_reserve), this.proofs, { includeFees: true });
    const paid = await this.wallet.meltProofsBolt11(quote, send);
    this.proofs = keep;
    const change = this.keep(paid.change);
    return { state: paid.quote.state, preimage: paid.quote.payment_preimage, amount: quote.amount.toNumber(), balance: change.balance };
  }

  // The library's types name only the kinds of BOLT 11; its socket carries any.
  async hear({ kind, name }) {
    await this.wallet.mint.connectWebSocket();
    this.heard = [];
    this.wallet.mint.webSocketConnection.createSubscription(
      { kind, filters: [name] },
      (seen) => this.heard.push(seen),
      (error) => this.heard.push({ error: String(error) }),
    );
    return {};
  }

  // What was told until a notice has at least `value` in `field`.
  async heard_until({ field, value, timeout_ms }) {
    const enough = (seen) => (typeof value === 'number' ? Number(seen[field]) >= value : seen[field] === value);
    for (const end = Date.now() + timeout_ms; !this.heard.some(enough); await sleep(20))
      if (Date.now() > end) throw new Error(`told only ${JSON.stringify(this.heard)}`);
    this.wallet.mint.disconnectWebSocket();
    return { count: this.heard.length };
  }

  async states({ token }) {
    const proofs = token ? this.wallet.decodeToken(token).proofs : this.proofs;
    return (await this.wallet.checkProofsStates(proofs)).map((state) => state.state);
  }
}

// A wallet at a mint that asks for a login (NUT-21) and for blind tokens (NUT-22), which the library mints and spends.
class AuthPeer extends Peer {
  static async open({ mint, unit, seed, pool }) {
    const peer = new AuthPeer(mint, unit, seed);
    const options = { authPool: pool, oidc: { scope: 'openid offline_access' } };
    const { auth, oidc } = await cashu.createAuthWallet(mint, options);
    peer.auth = auth;
    peer.wallet = new cashu.Wallet(new cashu.Mint(mint, { authProvider: auth }), {
      unit,
      bip39seed: peer.seed,
      requireSigDleq: true,
      authProvider: auth,
    });
    await peer.wallet.loadMint();
    peer.device = await oidc.startDeviceAuth(1);
    return peer;
  }

  async login() {
    await this.device.poll();
    await this.auth.ensure(1);
    return { pool: this.auth.poolSize };
  }

  async pool() {
    return { pool: this.auth.poolSize };
  }
}

function same(one, other) {
  if (JSON.stringify(one) !== JSON.stringify(other)) throw new Error('the same request had two answers');
}

async function watch(peer, token) {
  const proofs = peer.wallet.decodeToken(token).proofs;
  const spent = new Set();
  let tell;
  peer.allSpent = new Promise((resolve) => (tell = resolve));
  const seen = ({ state, proof }) => state === 'SPENT' && spent.add(proof.secret).size === proofs.length && tell(spent.size);
  peer.cancel = await peer.wallet.on.proofStateUpdates(proofs, seen, () => tell(-1));
}

function lockOptions(lock) {
  const builder = new cashu.P2PKBuilder();
  if (lock.pubkeys?.length) builder.addLockPubkey(lock.pubkeys);
  if (lock.locktime) builder.lockUntil(lock.locktime);
  if (lock.refund?.length) builder.addRefundPubkey(lock.refund);
  if (lock.n_sigs) builder.requireLockSignatures(lock.n_sigs);
  if (lock.hashlock) builder.addHashlock(lock.hashlock);
  if (lock.sig_all) builder.sigAll();
  if (lock.blinded) builder.blindKeys();
  return builder.toOptions();
}

function encodeV3({ mint, unit, memo, proofs }) {
  const plain = proofs.map((proof) => ({ ...proof, amount: proof.amount.toNumber() }));
  const body = JSON.stringify({ token: [{ mint, proofs: plain }], unit, ...(memo ? { memo } : {}) });
  return 'cashuA' + Buffer.from(body).toString('base64url');
}

const calls = {
  async open({ mint, unit, seed }) {
    const peer = new Peer(mint, unit, seed);
    await peer.wallet.loadMint();
    const handle = wallets.size;
    wallets.set(handle, peer);
    return { wallet: handle, ...peer.info() };
  },
  async request_encode({ request, form }) {
    const made = cashu.PaymentRequest.fromRawRequest(request);
    return form === 'creqA' ? made.toEncodedCreqA() : made.toEncodedCreqB();
  },
  async request_decode({ text }) {
    const raw = cashu.PaymentRequest.fromEncodedRequest(text).toRawRequest();
    return JSON.parse(JSON.stringify(raw, (_, value) => (typeof value === 'bigint' ? Number(value) : value)));
  },
  async ur_frames({ text, most_bytes, first, count }) {
    const encoder = new bcUr.UREncoder(bcUr.UR.fromBuffer(Buffer.from(text)), most_bytes, first - 1);
    return Array.from({ length: count }, () => encoder.nextPart());
  },
  async ur_text({ frames }) {
    const decoder = new bcUr.URDecoder();
    for (const frame of frames) decoder.receivePart(frame);
    if (!decoder.isSuccess()) throw new Error(decoder.isError() ? decoder.resultError() : 'the frames are not enough');
    const ur = decoder.resultUR();
    return { type: ur.type, text: ur.decodeCBOR().toString() };
  },
  async pay_parts({ request, parts }) {
    return Promise.all(parts.map(([wallet, amount_msat]) => wallets.get(wallet).melt_part({ request, amount_msat })));
  },
  async open_auth(args) {
    const peer = await AuthPeer.open(args);
    const handle = wallets.size;
    wallets.set(handle, peer);
    return { wallet: handle, ...peer.info(), visit: peer.device.verification_uri_complete };
  },
  async version() {
    return { node: process.version };
  },
};

async function answer(line) {
  const { id, call, wallet, args } = JSON.parse(line);
  try {
    const ok = wallet === null || wallet === undefined ? await calls[call](args) : await wallets.get(wallet)[call](args);
    return { id, ok };
  } catch (error) {
    return { id, error: { message: String(error?.message ?? error), code: error?.code ?? null } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await answer(line)) + '\n');
}
process.exit(0);
