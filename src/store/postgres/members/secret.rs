//! The secret of the cluster: made once, the same for all.

use sqlx::PgPool;

use crate::store::error::StoreError;
use crate::store::members::ClusterSecret;
use crate::store::postgres::answered;
use crate::store::postgres::rows::Reading;

const READ: &str = "SELECT id, secret, ca_cert, ca_key FROM cluster_secret";

const KEEP_FIRST: &str = "INSERT INTO cluster_secret (id, secret, ca_cert, ca_key) VALUES (1, $1, $2, $3) \
     ON CONFLICT (id) DO NOTHING";

pub(super) async fn found_or_made(
    pool: &PgPool,
    make: &(dyn Fn() -> ClusterSecret + Sync),
) -> Result<ClusterSecret, StoreError> {
    if let Some(found) = read(pool).await? {
        return Ok(found);
    }
    let fresh = make();
    let query = sqlx::query(KEEP_FIRST).bind(&fresh.secret).bind(&fresh.ca_cert_pem).bind(&fresh.ca_key_pem);
    answered(query.execute(pool)).await?;
    // Another node may have been first.
    read(pool).await?.ok_or_else(|| StoreError::Unavailable("the secret of the cluster is gone".to_owned()))
}

async fn read(pool: &PgPool) -> Result<Option<ClusterSecret>, StoreError> {
    let Some(row) = answered(sqlx::query(READ).fetch_optional(pool)).await? else { return Ok(None) };
    let reading = Reading { row: &row, table: "cluster_secret", named_by: "id" };
    Ok(Some(ClusterSecret {
        secret: reading.get("secret")?,
        ca_cert_pem: reading.get("ca_cert")?,
        ca_key_pem: reading.get("ca_key")?,
    }))
}
