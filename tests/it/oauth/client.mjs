// Drives our authorization server with the library `openid-client`, as a program of somebody else would.
// Told by the environment; prints one JSON object with what it got.
//
//   LIBRARY   where npm installed openid-client
//   ISSUER    the authorization server
//   WEB, WEB_SECRET, BACK   a client with a secret that sends browsers, and its address
//   ROBOT, ROBOT_SECRET     a client that acts for itself
//   DEVICE    a client without a secret that shows codes
//   LOGIN, PASSWORD         a user

import { strict as assert } from 'node:assert'
import { pathToFileURL } from 'node:url'

const { LIBRARY, ISSUER, WEB, WEB_SECRET, BACK, ROBOT, ROBOT_SECRET, DEVICE, LOGIN, PASSWORD } = process.env
const oauth = await import(pathToFileURL(`${LIBRARY}/node_modules/openid-client/build/index.js`))
const jose = await import(pathToFileURL(`${LIBRARY}/node_modules/jose/dist/webapi/index.js`))

// What a browser does: keeps cookies, sends forms, and stops where it is sent elsewhere.
class Browser {
  cookies = new Map()

  async open(url, form) {
    const headers = { cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ') }
    const body = form && new URLSearchParams(form)
    const answer = await fetch(url, { method: form ? 'POST' : 'GET', body, headers, redirect: 'manual' })
    for (const line of answer.headers.getSetCookie()) {
      const [name, value] = line.split(';')[0].split('=')
      if (value) this.cookies.set(name, value)
      else this.cookies.delete(name)
    }
    const html = await answer.text()
    const journey = html.match(/name="journey" value="([^"]*)"/)?.[1]
    return { status: answer.status, location: answer.headers.get('location'), html, journey }
  }

  async step(page, fields) {
    assert(page.journey, `no form: ${page.status} ${page.html}`)
    return this.open(`${ISSUER}/oauth/consent`, { journey: page.journey, ...fields })
  }
}

const discover = async (id, authentication) => {
  const config = await oauth.discovery(new URL(ISSUER), id, undefined, authentication, {
    algorithm: 'oauth2',
    execute: [oauth.allowInsecureRequests],
  })
  assert.equal(config.serverMetadata().issuer, ISSUER)
  return config
}

const api = async (token, path) => {
  const answer = await fetch(`${ISSUER}${path}`, { headers: { authorization: `Bearer ${token}` } })
  return answer.status
}

const told = {}

// A code with proof, by a client that sends its secret in the header.
const web = await discover(WEB, oauth.ClientSecretBasic(WEB_SECRET))
const verifier = oauth.randomPKCECodeVerifier()
const state = oauth.randomState()
const start = oauth.buildAuthorizationUrl(web, {
  redirect_uri: BACK,
  scope: 'own calls:read',
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  state,
})
const browser = new Browser()
let page = await browser.open(start)
page = await browser.step(page, { step: 'sign_in', login: LOGIN, password: PASSWORD })
page = await browser.step(page, { step: 'allow' })
assert.equal(page.status, 303, page.html)
const back = new URL(page.location)
const checks = { pkceCodeVerifier: verifier, expectedState: state }
let tokens = await oauth.authorizationCodeGrant(web, back, checks)
assert.equal(tokens.scope, 'own calls:read')

// Whoever serves with our tokens checks them with our keys.
const keys = jose.createRemoteJWKSet(new URL(web.serverMetadata().jwks_uri))
const { payload } = await jose.jwtVerify(tokens.access_token, keys, { audience: 'eml', typ: 'at+jwt' })
told.claims = { client_id: payload.client_id, scope: payload.scope, amr: payload.amr }

told.profile = await api(tokens.access_token, '/users/profile')
told.beyond_scope = await api(tokens.access_token, '/users/list')

// A mixed-up answer: the library compares the issuer that each answer names.
const mixed = new URL(back)
mixed.searchParams.set('iss', 'https://evil.example')
await assert.rejects(oauth.authorizationCodeGrant(web, mixed, checks), (error) => /iss/.test(error.cause?.message))

// Fresh tokens, and what is told of them.
tokens = await oauth.refreshTokenGrant(web, tokens.refresh_token)
told.refreshed = await api(tokens.access_token, '/users/profile')
const about = await oauth.tokenIntrospection(web, tokens.access_token)
told.about = { active: about.active, username: about.username, client_id: about.client_id, scope: about.scope }

// Given back.
await oauth.tokenRevocation(web, tokens.refresh_token)
told.revoked = await api(tokens.access_token, '/users/profile')
told.about_revoked = (await oauth.tokenIntrospection(web, tokens.access_token)).active

// For itself, with the secret in the body.
const robot = await discover(ROBOT, oauth.ClientSecretPost(ROBOT_SECRET))
const own = await oauth.clientCredentialsGrant(robot, { scope: 'calls:read' })
told.robot = await api(own.access_token, '/calls/active')
told.robot_beyond = await api(own.access_token, '/queues')
assert.equal(own.refresh_token, undefined)

// A device, without a secret.
const device = await discover(DEVICE, oauth.None())
const waiting = await oauth.initiateDeviceAuthorization(device, { scope: 'own' })
const polling = oauth.pollDeviceAuthorizationGrant(device, waiting)
const other = new Browser()
page = await other.open(waiting.verification_uri_complete)
page = await other.step(page, { step: 'user_code', user_code: waiting.user_code })
assert(page.html.includes(waiting.user_code), page.html)
page = await other.step(page, { step: 'sign_in', login: LOGIN, password: PASSWORD })
page = await other.step(page, { step: 'allow' })
assert.equal(page.status, 200, page.html)
const onDevice = await polling
told.device = await api(onDevice.access_token, '/users/profile')

console.log(JSON.stringify(told))
