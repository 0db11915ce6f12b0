//! The texts of the page after a login.

use super::catalogue::catalogue;

catalogue! {
    title_result_gone()
        en "This result is not shown any more"
        de "Dieses Ergebnis wird nicht mehr angezeigt"
        fr "Ce résultat n’est plus affiché"
        es "Este resultado ya no se muestra"
        pt "Este resultado não é mais exibido"

    result_is_kept()
        en "The result of a login is kept for half an hour, for the browser that made it. The linked Pages stay linked."
        de "Das Ergebnis einer Anmeldung wird eine halbe Stunde lang für den Browser aufbewahrt, in dem sie stattfand. \
            Die verknüpften Seiten bleiben verknüpft."
        fr "Le résultat d’une connexion est conservé une demi-heure, pour le navigateur qui l’a faite. Les Pages \
            associées le restent."
        es "El resultado de un inicio de sesión se guarda media hora, para el navegador que lo hizo. Las páginas \
            vinculadas siguen vinculadas."
        pt "O resultado de um login é guardado por meia hora, para o navegador que o fez. As Páginas vinculadas \
            continuam vinculadas."

    title_no_page_yet()
        en "No Page is linked yet"
        de "Noch ist keine Seite verknüpft"
        fr "Aucune Page n’est encore associée"
        es "Todavía no hay ninguna página vinculada"
        pt "Nenhuma Página está vinculada ainda"

    may_still_be_asked()
        en "If you have just logged in, Facebook may still be asked for your Pages. Try again in a moment."
        de "Wenn Sie sich gerade angemeldet haben, werden Ihre Seiten vielleicht noch bei Facebook abgefragt. Versuchen \
            Sie es gleich noch einmal."
        fr "Si vous venez de vous connecter, vos Pages sont peut-être encore en cours de récupération auprès de \
            Facebook. Réessayez dans un instant."
        es "Si acaba de iniciar sesión, es posible que todavía se estén consultando sus páginas en Facebook. Vuelva a \
            intentarlo en un momento."
        pt "Se você acabou de fazer login, talvez suas Páginas ainda estejam sendo consultadas no Facebook. Tente \
            novamente em instantes."

    title_linking()
        en "Linking your Pages"
        de "Ihre Seiten werden verknüpft"
        fr "Association de vos Pages"
        es "Vinculando sus páginas"
        pt "Vinculando suas Páginas"

    asking_facebook()
        en "Facebook is being asked for your Pages. This page fills in by itself."
        de "Ihre Seiten werden bei Facebook abgefragt. Diese Ansicht füllt sich von selbst."
        fr "Vos Pages sont demandées à Facebook. Cet écran se complète de lui-même."
        es "Se están consultando sus páginas en Facebook. Esta pantalla se completa sola."
        pt "Suas Páginas estão sendo consultadas no Facebook. Esta tela se completa sozinha."

    being_linked_for(user, at)
        en "They are linked for {user}{at}."
        de "Sie werden für {user}{at} verknüpft."
        fr "Elles sont associées pour {user}{at}."
        es "Se vinculan para {user}{at}."
        pt "Elas são vinculadas para {user}{at}."

    goes_on_without_the_window()
        en "You can close this window: the login goes on without it."
        de "Sie können dieses Fenster schließen: Die Anmeldung läuft auch ohne es weiter."
        fr "Vous pouvez fermer cette fenêtre\u{a0}: la connexion continue sans elle."
        es "Puede cerrar esta ventana: el inicio de sesión continúa sin ella."
        pt "Você pode fechar esta janela: o login continua sem ela."

    code_spent()
        en "Facebook says that this login was used before or took too long."
        de "Laut Facebook wurde diese Anmeldung bereits verwendet oder hat zu lange gedauert."
        fr "Selon Facebook, cette connexion a déjà été utilisée ou a duré trop longtemps."
        es "Según Facebook, este inicio de sesión ya se utilizó o tardó demasiado."
        pt "Segundo o Facebook, este login já foi usado ou demorou demais."

    does_not_answer()
        en "Facebook, or this site, does not answer at the moment. Please try again in a few minutes."
        de "Facebook oder diese Website antwortet im Moment nicht. Bitte versuchen Sie es in einigen Minuten erneut."
        fr "Facebook ou ce site ne répond pas pour le moment. Veuillez réessayer dans quelques minutes."
        es "Facebook o este sitio no responde en este momento. Vuelva a intentarlo dentro de unos minutos."
        pt "O Facebook ou este site não está respondendo no momento. Tente novamente em alguns minutos."

    ended_meanwhile()
        en "While you logged in, the app was removed on Facebook, or your data was to be deleted here. If you still \
            want to link your Pages, start again."
        de "Während Ihrer Anmeldung wurde die App bei Facebook entfernt, oder Ihre Daten sollten hier gelöscht werden. \
            Wenn Sie Ihre Seiten weiterhin verknüpfen möchten, beginnen Sie neu."
        fr "Pendant votre connexion, l’application a été supprimée sur Facebook ou la suppression de vos données a été \
            demandée ici. Si vous souhaitez toujours associer vos Pages, recommencez."
        es "Mientras iniciaba sesión, la aplicación se eliminó en Facebook o se pidió que se borraran sus datos aquí. Si \
            todavía quiere vincular sus páginas, empiece de nuevo."
        pt "Enquanto você fazia login, o aplicativo foi removido no Facebook ou foi pedida a exclusão dos seus dados \
            aqui. Se ainda quiser vincular suas Páginas, comece de novo."

    facebook_refused(platform)
        en "Facebook refused the login. If it does so again, please tell {platform}."
        de "Facebook hat die Anmeldung abgelehnt. Wenn das wieder geschieht, wenden Sie sich bitte an {platform}."
        fr "Facebook a refusé la connexion. Si cela se reproduit, veuillez le signaler à {platform}."
        es "Facebook rechazó el inicio de sesión. Si vuelve a ocurrir, comuníqueselo a {platform}."
        pt "O Facebook recusou o login. Se isso acontecer de novo, avise {platform}."

    facebook_refused_tell_the_site()
        en "Facebook refused the login. If it does so again, please tell the site that sent you here."
        de "Facebook hat die Anmeldung abgelehnt. Wenn das wieder geschieht, wenden Sie sich bitte an die Website, von \
            der Sie kommen."
        fr "Facebook a refusé la connexion. Si cela se reproduit, veuillez le signaler au site d’où vous venez."
        es "Facebook rechazó el inicio de sesión. Si vuelve a ocurrir, comuníquelo al sitio desde el que llegó aquí."
        pt "O Facebook recusou o login. Se isso acontecer de novo, avise o site de onde você veio."

    title_none_linked()
        en "No Pages were linked"
        de "Es wurden keine Seiten verknüpft"
        fr "Aucune Page n’a été associée"
        es "No se ha vinculado ninguna página"
        pt "Nenhuma Página foi vinculada"

    title_linked()
        en "Your pages are linked"
        de "Ihre Seiten sind verknüpft"
        fr "Vos Pages sont associées"
        es "Sus páginas están vinculadas"
        pt "Suas Páginas estão vinculadas"

    title_one_stopped()
        en "One of your Pages has stopped"
        de "Eine Ihrer Seiten ist nicht mehr verknüpft"
        fr "L’une de vos Pages n’est plus suivie"
        es "Una de sus páginas ha dejado de actualizarse"
        pt "Uma das suas Páginas parou de ser atualizada"

    title_stopped(count)
        en "{count} of your Pages have stopped"
        de "{count} Ihrer Seiten sind nicht mehr verknüpft"
        fr "{count} de vos Pages ne sont plus suivies"
        es "{count} de sus páginas han dejado de actualizarse"
        pt "{count} das suas Páginas pararam de ser atualizadas"

    stored_so_far(stored, all)
        en "{stored} of {all} Pages are stored so far. The rest follows by itself; you can close this window."
        de "Bisher gespeicherte Seiten: {stored} von {all}. Der Rest folgt von selbst; Sie können dieses Fenster \
            schließen."
        fr "Pages enregistrées jusqu’ici\u{a0}: {stored} sur {all}. La suite se fait toute seule\u{a0}; vous pouvez \
            fermer cette fenêtre."
        es "Páginas guardadas hasta ahora: {stored} de {all}. El resto se completa solo; puede cerrar esta ventana."
        pt "Páginas salvas até agora: {stored} de {all}. O restante segue automaticamente; você pode fechar esta \
            janela."

    choose_again()
        en "Choose your Pages again"
        de "Seiten erneut auswählen"
        fr "Choisir à nouveau vos Pages"
        es "Elegir de nuevo sus páginas"
        pt "Escolher suas Páginas de novo"

    list_incomplete()
        en "Facebook did not show all of your Pages this time. If one is missing here, log in again later."
        de "Facebook hat diesmal nicht alle Ihre Seiten angezeigt. Wenn hier eine fehlt, melden Sie sich später erneut an."
        fr "Facebook n’a pas montré toutes vos Pages cette fois-ci. S’il en manque une ici, reconnectez-vous plus tard."
        es "Facebook no mostró todas sus páginas esta vez. Si falta alguna aquí, inicie sesión de nuevo más tarde."
        pt "O Facebook não mostrou todas as suas Páginas desta vez. Se faltar alguma aqui, faça login de novo mais \
            tarde."

    not_you()
        en "You can close this window. Is this not you, or not what you wanted? Remove the app in your Facebook \
            settings, under “Apps and websites”: all of its Pages stop at once."
        de "Sie können dieses Fenster schließen. Sind Sie das nicht, oder wollten Sie das nicht? Entfernen Sie die App \
            in Ihren Facebook-Einstellungen unter „Apps und Websites“: Dann enden sofort alle ihre Verknüpfungen."
        fr "Vous pouvez fermer cette fenêtre. Ce n’est pas vous, ou pas ce que vous vouliez\u{a0}? Supprimez \
            l’application dans vos paramètres Facebook, sous «\u{a0}Apps et sites web\u{a0}»\u{a0}: toutes ses \
            associations s’arrêtent aussitôt."
        es "Puede cerrar esta ventana. ¿No es usted, o no es lo que quería? Elimine la aplicación en la configuración de \
            Facebook, en «Apps y sitios web»: todas sus páginas se desvinculan de inmediato."
        pt "Você pode fechar esta janela. Não é você, ou não era isso que você queria? Remova o aplicativo nas \
            configurações do Facebook, em “Apps e sites”: todas as Páginas dele param na hora."

    nothing_linked_for(user, at)
        en "You logged in for {user}{at}, and no Page is linked."
        de "Sie haben sich für {user}{at} angemeldet, und es ist keine Seite verknüpft."
        fr "Vous vous êtes connecté pour {user}{at}, et aucune Page n’est associée."
        es "Inició sesión para {user}{at}, y no hay ninguna página vinculada."
        pt "Você fez login para {user}{at}, e nenhuma Página está vinculada."

    no_access_for(user, at)
        en "You logged in for {user}{at}, and Facebook gave access to no Page. In Facebook's window, tick the Pages to \
            link."
        de "Sie haben sich für {user}{at} angemeldet, aber Facebook hat auf keine Seite Zugriff gegeben. Kreuzen Sie im \
            Fenster von Facebook die Seiten an, die verknüpft werden sollen."
        fr "Vous vous êtes connecté pour {user}{at}, mais Facebook n’a donné accès à aucune Page. Dans la fenêtre de \
            Facebook, cochez les Pages à associer."
        es "Inició sesión para {user}{at}, pero Facebook no dio acceso a ninguna página. En la ventana de Facebook, \
            marque las páginas que quiere vincular."
        pt "Você fez login para {user}{at}, mas o Facebook não deu acesso a nenhuma Página. Na janela do Facebook, \
            marque as Páginas que deseja vincular."

    one_linked_for(user, at)
        en "One Page is linked for {user}{at}."
        de "Eine Seite ist für {user}{at} verknüpft."
        fr "Une Page est associée pour {user}{at}."
        es "Hay una página vinculada para {user}{at}."
        pt "Uma Página está vinculada para {user}{at}."

    linked_for(count, user, at)
        en "{count} Pages are linked for {user}{at}."
        de "{count} Seiten sind für {user}{at} verknüpft."
        fr "{count} Pages sont associées pour {user}{at}."
        es "Hay {count} páginas vinculadas para {user}{at}."
        pt "{count} Páginas estão vinculadas para {user}{at}."

    heading_linked()
        en "Linked"
        de "Verknüpft"
        fr "Pages associées"
        es "Páginas vinculadas"
        pt "Páginas com vínculo"

    heading_still_linked()
        en "Still linked"
        de "Weiterhin verknüpft"
        fr "Pages toujours associées"
        es "Páginas que siguen vinculadas"
        pt "Páginas que continuam vinculadas"

    linked_being_stored()
        en "linked; storing goes on by itself"
        de "verknüpft; wird von selbst gespeichert"
        fr "associée\u{a0}; l’enregistrement se fait tout seul"
        es "vinculada; se está guardando automáticamente"
        pt "vinculada; está sendo salva automaticamente"

    linked_and_weak()
        en "linked and stored; changes show late, as your role on it is limited"
        de "verknüpft und gespeichert; Änderungen erscheinen verspätet, da Ihre Rolle auf der Seite eingeschränkt ist"
        fr "associée et enregistrée\u{a0}; les modifications apparaissent avec retard, car votre rôle sur la Page est \
            limité"
        es "vinculada y guardada; los cambios aparecen con retraso porque su rol en ella es limitado"
        pt "vinculada e salva; as alterações aparecem com atraso, pois sua função nela é limitada"

    linked_and_stored()
        en "linked and stored"
        de "verknüpft und gespeichert"
        fr "associée et enregistrée"
        es "vinculada y guardada"
        pt "vinculada e salva"

    heading_not_linked()
        en "Not linked"
        de "Nicht verknüpft"
        fr "Pages non associées"
        es "Páginas no vinculadas"
        pt "Páginas não vinculadas"

    refused_pages()
        en "You did not tick these, or your role on them is too weak: a person with full control of the Page can link \
            it."
        de "Sie haben diese nicht angekreuzt, oder Ihre Rolle reicht nicht aus: Eine Person mit Vollzugriff auf die \
            Seite kann sie verknüpfen."
        fr "Vous ne les avez pas cochées, ou votre rôle ne suffit pas\u{a0}: une personne ayant le contrôle total de la \
            Page peut l’associer."
        es "No marcó estas páginas, o su rol en ellas no es suficiente: una persona con control total de la página puede \
            vincularla."
        pt "Você não marcou estas Páginas, ou sua função nelas não é suficiente: uma pessoa com controle total da Página \
            pode vinculá-la."

    not_linked()
        en "not linked"
        de "nicht verknüpft"
        fr "non associée"
        es "no vinculada"
        pt "não vinculada"

    heading_unlinked()
        en "Unlinked meanwhile"
        de "Inzwischen nicht mehr verknüpft"
        fr "Pages dissociées entre-temps"
        es "Páginas desvinculadas mientras tanto"
        pt "Páginas desvinculadas nesse meio-tempo"

    unlinked_by(platform)
        en "While you logged in, {platform} removed these. To link them, log in again."
        de "Während Ihrer Anmeldung hat {platform} diese entfernt. Um sie zu verknüpfen, melden Sie sich erneut an."
        fr "Pendant votre connexion, {platform} les a retirées. Pour les associer, reconnectez-vous."
        es "Mientras iniciaba sesión, {platform} las quitó. Para vincularlas, inicie sesión de nuevo."
        pt "Enquanto você fazia login, {platform} removeu estas Páginas. Para vinculá-las, faça login de novo."

    unlinked_by_the_site()
        en "While you logged in, the site that sent you here removed these. To link them, log in again."
        de "Während Ihrer Anmeldung hat die Website, von der Sie kommen, diese entfernt. Um sie zu verknüpfen, melden \
            Sie sich erneut an."
        fr "Pendant votre connexion, le site d’où vous venez les a retirées. Pour les associer, reconnectez-vous."
        es "Mientras iniciaba sesión, el sitio desde el que llegó aquí las quitó. Para vincularlas, inicie sesión de \
            nuevo."
        pt "Enquanto você fazia login, o site de onde você veio removeu estas Páginas. Para vinculá-las, faça login de \
            novo."
}
