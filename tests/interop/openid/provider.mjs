// A certified OpenID provider (npm oidc-provider) for the interop tests: one public client, development login pages.
//
//   node provider.mjs DIR PORT ALGORITHM KEY PKCE SECONDS
//
// DIR holds node_modules; ALGORITHM is ES256, RS256 or EdDSA; PKCE is required or optional; access tokens last SECONDS.
// KEY names the signing key: the same name on the same run directory gives the same key, so that a restart with another
// name is a rotation. Prints "ready" when it listens. Whoever logs in is who they say they are: it is nobody's provider.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [directory, port, algorithm, name, pkce, seconds] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(join(directory, 'node_modules/oidc-provider/lib/index.js')).href);

const file = `${name}-${algorithm}.json`;
if (!existsSync(file)) {
  const options = { ES256: ['ec', { namedCurve: 'P-256' }], RS256: ['rsa', { modulusLength: 2048 }], EdDSA: ['ed25519', {}] };
  const { privateKey } = generateKeyPairSync(...options[algorithm]);
  writeFileSync(file, JSON.stringify({ ...privateKey.export({ format: 'jwk' }), kid: name, use: 'sig', alg: algorithm }));
}

const audience = 'urn:specie:mint';
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: 'cashu-client',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      redirect_uris: ['http://localhost:33388/callback'],
      response_types: ['code'],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      id_token_signed_response_alg: algorithm,
    },
  ],
  cookies: { keys: ['only for tests'] },
  jwks: { keys: [JSON.parse(readFileSync(file))] },
  findAccount: (_, sub) => ({ accountId: sub, claims: async () => ({ sub }) }),
  pkce: { required: () => pkce === 'required' },
  issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'openid offline_access',
        audience,
        accessTokenTTL: Number(seconds),
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: algorithm } },
      }),
    },
  },
});
provider.on('server_error', (_, error) => console.error(error));
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
