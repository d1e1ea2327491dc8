//! A network between one process and PostgreSQL that can be cut, fall silent, and be slow.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fine,
    /// Each piece comes so much later.
    Slow(Duration),
    /// Nothing comes, and nobody is told.
    Silent,
    /// Every connection is reset, new ones too.
    Cut,
}

/// Runs until it is dropped.
pub(crate) struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    _runtime: Runtime,
}

impl Proxy {
    pub(crate) fn start(socket: PathBuf) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (weather, seen) = watch::channel(Weather::Fine);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(client, socket.clone(), seen.clone()));
            }
        });
        Self {
            port,
            weather,
            _runtime: runtime,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn serve(client: TcpStream, socket: PathBuf, mut weather: watch::Receiver<Weather>) {
    // Whatever ends this function resets the connection.
    client.set_zero_linger().unwrap();
    if *weather.borrow() == Weather::Cut {
        return;
    }
    let Ok(server) = UnixStream::connect(socket).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (there, back) = (weather.clone(), weather.clone());
    tokio::select! {
        () = pump(&mut from_client, &mut to_server, there) => {}
        () = pump(&mut from_server, &mut to_client, back) => {}
        _ = weather.wait_for(|now| *now == Weather::Cut) => {}
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut weather: watch::Receiver<Weather>,
) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(length) = from.read(&mut piece).await
        && length > 0
    {
        // What was sent into the silence arrives after it, as TCP sends it again.
        let calm = weather.wait_for(|now| *now != Weather::Silent).await;
        let slow = match *calm.unwrap() {
            Weather::Slow(slow) => slow,
            Weather::Fine | Weather::Silent | Weather::Cut => Duration::ZERO,
        };
        tokio::time::sleep(slow).await;
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
