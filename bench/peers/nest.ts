// The route on NestJS with Express: its usual JWT module in a guard, its usual pipe of class-validator.
//
// PORT, PUBLIC_KEY (PEM), KEY_OBJECT=yes to parse the key once instead of giving it as text.
import 'reflect-metadata';
import { createPublicKey } from 'node:crypto';
import {
  Body, CanActivate, Controller, ExecutionContext, ForbiddenException, HttpCode, Injectable, Module, Post,
  UnauthorizedException, UseGuards, ValidationPipe,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { JwtModule, JwtService } from '@nestjs/jwt';
import { IsIn, IsObject, IsOptional, Matches } from 'class-validator';

const ADDRESS = /^\+[1-9][0-9]{7,14}$/;

class CheckCall {
  @Matches(ADDRESS)
  to!: string;

  @IsOptional()
  @Matches(ADDRESS)
  from?: string;

  @IsOptional()
  @IsIn(['twilio'])
  provider?: string;

  @IsOptional()
  @IsObject()
  context?: object;
}

@Injectable()
class SignedIn implements CanActivate {
  constructor(private readonly jwt: JwtService) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest();
    const [scheme, token] = request.headers.authorization?.split(' ') ?? [];
    if (scheme !== 'Bearer' || !token) {
      throw new UnauthorizedException();
    }
    try {
      request.user = await this.jwt.verifyAsync(token);
    } catch {
      throw new UnauthorizedException();
    }
    if (!request.user.roles?.includes('agent')) {
      throw new ForbiddenException();
    }
    return true;
  }
}

@Controller('calls')
class Calls {
  @UseGuards(SignedIn)
  @HttpCode(200)
  @Post('check')
  check(@Body() { to, from = '+12025550100', provider = 'twilio' }: CheckCall) {
    return { to, from, provider, queue_id: null, agent_id: null };
  }
}

const pem = process.env.PUBLIC_KEY!;
// The module's types know text only; what it calls takes a parsed key as well.
const key = process.env.KEY_OBJECT === 'yes' ? (createPublicKey(pem) as unknown as string) : pem;

@Module({
  imports: [JwtModule.register({
    publicKey: key,
    verifyOptions: { algorithms: ['ES256'], issuer: 'eml', audience: 'eml' },
  })],
  controllers: [Calls],
})
class App {}

const app = await NestFactory.create(App, { logger: false });
app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true }));
await app.listen(Number(process.env.PORT), '127.0.0.1');
