const { Bot } = require('grammy')

const bot = new Bot('1:zoo', { client: { apiRoot: 'http://127.0.0.1:8081' } })

bot.command('start', (ctx) => ctx.reply('Welcome! Up and running.'))
bot.on('message', (ctx) => ctx.reply('Got another message!'))

bot.start()
