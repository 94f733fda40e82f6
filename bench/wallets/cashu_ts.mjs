// The cashu-ts wallet as `bench.wallet` calls it (see ours.py).
//
//   node cashu_ts.mjs DIR        DIR holds the node_modules that scripts/install-peers.sh made
//
// The library keeps nothing on disk; what it restores or receives stays in memory.

import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { webcrypto } from 'node:crypto';

globalThis.crypto ??= webcrypto; // Node 18

const library = join(process.argv[2], 'node_modules/@cashu/cashu-ts/lib/cashu-ts.es.js');
const cashu = await import(pathToFileURL(library).href);

let wallet;
let held = [];

const sum = (proofs) => proofs.reduce((total, proof) => total + Number(proof.amount), 0);

async function timed(work) {
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  const result = await work();
  const used = process.cpuUsage(cpu);
  return { ms: performance.now() - start, cpu_ms: (used.user + used.system) / 1000, result };
}

const calls = {
  async open({ mint, seed }) {
    const bip39seed = Uint8Array.from(Buffer.from(seed, 'hex'));
    wallet = new cashu.Wallet(mint, { unit: 'sat', bip39seed, requireSigDleq: true });
    await wallet.loadMint();
    return {};
  },
  async receive({ token }) {
    const told = await timed(() => wallet.receive(wallet.decodeToken(token), { requireDleq: true }));
    return { ...told, result: sum(told.result) };
  },
  async restore() {
    const told = await timed(async () => {
      const found = [];
      for (const keyset of wallet.keyChain.getKeysets()) {
        const { proofs } = await wallet.batchRestore(undefined, undefined, undefined, keyset.id);
        found.push(...(await wallet.groupProofsByState(proofs)).unspent);
      }
      return found;
    });
    return { ...told, result: sum(told.result) };
  },
  async dleq({ token }) {
    const proofs = wallet.decodeToken(token).proofs;
    const told = await timed(() => {
      for (const proof of proofs)
        if (!cashu.hasValidDleq(proof, wallet.getKeyset(proof.id))) throw new Error('a DLEQ does not hold');
    });
    return { ...told, result: proofs.length };
  },
  async hold({ keyset, secrets, point, amounts }) {
    held = secrets.map((secret, at) => ({ id: keyset, amount: cashu.Amount.from(amounts[at]), secret, C: point }));
    return {};
  },
  async select({ target }) {
    const told = await timed(() => wallet.selectProofsToSend(held, target, true));
    return { ...told, result: sum(told.result.send) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, call, args } = JSON.parse(line);
  let answer;
  try {
    answer = { id, ok: await calls[call](args) };
  } catch (error) {
    answer = { id, error: { message: String(error?.message ?? error), code: error?.code ?? null } };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
