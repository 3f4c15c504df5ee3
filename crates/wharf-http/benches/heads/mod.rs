//! The heads that parsers are measured with, here and beside others in `bench/`.

/// Names and bytes.
pub(crate) const HEADS: [(&str, &[u8]); 4] = [
    ("smallest", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("plaintext", b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"),
    (
        "api",
        b"POST /api/orders/4711?expand=lines HTTP/1.1\r\nHost: api.example.com\r\n\
          Content-Type: application/json\r\nAccept: */*\r\nUser-Agent: curl/8.14.1\r\n\
          Authorization: Bearer 0123456789abcdef0123456789abcdef\r\nContent-Length: 312\r\n\r\n",
    ),
    (
        "browser",
        b"GET /shop/search?q=completion+ports&page=2 HTTP/1.1\r\n\
          Host: www.example.com\r\n\
          Connection: keep-alive\r\n\
          Cache-Control: max-age=0\r\n\
          sec-ch-ua: \"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\", \"Not_A Brand\";v=\"99\"\r\n\
          sec-ch-ua-mobile: ?0\r\n\
          sec-ch-ua-platform: \"Linux\"\r\n\
          Upgrade-Insecure-Requests: 1\r\n\
          User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
          Chrome/142.0.0.0 Safari/537.36\r\n\
          Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,\
          image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7\r\n\
          Sec-Fetch-Site: same-origin\r\n\
          Sec-Fetch-Mode: navigate\r\n\
          Sec-Fetch-User: ?1\r\n\
          Sec-Fetch-Dest: document\r\n\
          Accept-Encoding: gzip, deflate, br, zstd\r\n\
          Accept-Language: en-GB,en-US;q=0.9,en;q=0.8,de;q=0.7\r\n\
          Cookie: session=6b0e9a4c2f8d4e1b9a7c3d5e; theme=dark; consent=necessary%2Cstatistics\r\n\
          \r\n",
    ),
];
