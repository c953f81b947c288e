// As much of Telegram's Bot API as bot.js asks of it; /tmp/replies has the number of replies.
const fs = require('node:fs')
const http = require('node:http')

let update = 0
let replies = 0
const message = () => ({
  update_id: ++update,
  message: { message_id: update, date: 0, text: 'hello', chat: { id: 1, type: 'private', first_name: 'Zoo' } },
})
const answers = {
  getMe: () => ({ id: 1, is_bot: true, first_name: 'Zoo', username: 'zoo_bot' }),
  getUpdates: () => [message()],
  sendMessage: () => {
    fs.writeFileSync('/tmp/replies', `${++replies}`)
    return message().message
  },
}
http
  .createServer((request, response) => {
    request.resume()
    const method = request.url.split('/').pop().split('?')[0]
    const result = answers[method] ? answers[method]() : true
    setTimeout(() => response.end(JSON.stringify({ ok: true, result })), 50)
  })
  .listen(8081, '127.0.0.1')
