// The route on Fastify: its own JWT plug-in, its own schemas for body and answer.
//
// PORT, PUBLIC_KEY (PEM), CACHE=yes to have it remember tokens that it has checked, as EML does.
import jwt from '@fastify/jwt';
import Fastify from 'fastify';

const address = '^\\+[1-9][0-9]{7,14}$';
const maybe = (type) => ({ type, nullable: true });
const app = Fastify({
  logger: false,
  ajv: { customOptions: { removeAdditional: false, coerceTypes: false } },
});

await app.register(jwt, {
  secret: { public: process.env.PUBLIC_KEY },
  verify: {
    algorithms: ['ES256'],
    allowedIss: 'eml',
    allowedAud: 'eml',
    cache: process.env.CACHE === 'yes',
  },
});

app.post('/calls/check', {
  onRequest: async (request, reply) => {
    await request.jwtVerify();
    if (!request.user.roles?.includes('agent')) {
      return reply.code(403).send({ title: 'not permitted' });
    }
  },
  schema: {
    body: {
      type: 'object',
      required: ['to'],
      additionalProperties: false,
      properties: {
        to: { type: 'string', pattern: address },
        from: { type: 'string', pattern: address },
        provider: { type: 'string', enum: ['twilio'] },
        context: { type: 'object' },
      },
    },
    response: {
      200: {
        type: 'object',
        properties: {
          to: { type: 'string' },
          from: { type: 'string' },
          provider: { type: 'string' },
          queue_id: maybe('string'),
          agent_id: maybe('string'),
        },
      },
    },
  },
}, async (request) => {
  const { to, from = '+12025550100', provider = 'twilio' } = request.body;
  return { to, from, provider, queue_id: null, agent_id: null };
});

await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
