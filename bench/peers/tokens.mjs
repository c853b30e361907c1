// A key pair and tokens of it for the peers, as JSON on standard output. The claims are those of EML's own.
import { generateKeyPairSync, randomUUID, sign } from 'node:crypto';

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

function token(changes = {}, key = privateKey) {
  const now = Math.floor(Date.now() / 1000);
  const header = { typ: 'at+jwt', alg: 'ES256', kid: 'only' };
  const claims = {
    iss: 'eml', aud: 'eml', sub: 'usr_01h455vb4pex5vsknk084sn02q', sid: 'sid_01h455vb4pex5vsknk084sn02q',
    roles: ['agent'], epoch: 1, iat: now, nbf: now, exp: now + 7200, jti: randomUUID(), auth_time: now,
    amr: ['pwd'], ...changes,
  };
  const signed = `${encode(header)}.${encode(claims)}`;
  const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}

console.log(JSON.stringify({
  public_key: publicKey.export({ type: 'spki', format: 'pem' }),
  good: token(),
  refused: {
    expired: token({ exp: 1 }),
    'of another issuer': token({ iss: 'other' }),
    'for another audience': token({ aud: 'other' }),
    'of another key': token({}, other),
    'not a token': 'abc',
  },
}));
