//! Which content is here, under both of its ids.

use std::path::PathBuf;

use sealtune_content::ContentId;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, now_ms};
use crate::api::types::ContentView;

fn parse_row(row: &SqliteRow) -> Result<Option<(ContentView, PathBuf)>, StoreError> {
    let zg: Option<String> = row.try_get("zg")?;
    let Ok(sha256) = row.try_get::<String, _>("sha256")?.parse() else {
        return Ok(None);
    };
    let view = ContentView {
        sha256,
        zg: zg.and_then(|id| id.parse().ok()),
        bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
        added: row.try_get("added")?,
    };
    Ok(Some((view, PathBuf::from(row.try_get::<String, _>("path")?))))
}

impl Store {
    pub(crate) async fn add_content(
        &self,
        sha256: &ContentId,
        zg: Option<&ContentId>,
        path: &std::path::Path,
    ) -> Result<ContentView, StoreError> {
        let added = now_ms();
        sqlx::query(
            "INSERT INTO contents (sha256, zg, path, bytes, added) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (sha256) DO UPDATE SET path = excluded.path, zg = excluded.zg",
        )
        .bind(sha256.to_string())
        .bind(zg.map(ToString::to_string))
        .bind(path.display().to_string())
        .bind(sha256.length().cast_signed())
        .bind(added)
        .execute(&self.pool)
        .await?;
        Ok(ContentView { sha256: *sha256, zg: zg.copied(), bytes: sha256.length(), added })
    }

    pub(crate) async fn content_path(&self, id: &ContentId) -> Result<Option<PathBuf>, StoreError> {
        let row = sqlx::query("SELECT * FROM contents WHERE sha256 = ?1 OR zg = ?1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.as_ref().map(parse_row).transpose()?.flatten().map(|(_, path)| path))
    }

    pub(crate) async fn contents(&self) -> Result<Vec<ContentView>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM contents ORDER BY added").fetch_all(&self.pool).await?;
        let mut views = Vec::new();
        for row in &rows {
            views.extend(parse_row(row)?.map(|(view, _)| view));
        }
        Ok(views)
    }

    pub(crate) async fn remove_content(&self, sha256: &ContentId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM contents WHERE sha256 = ?")
            .bind(sha256.to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
